//! `rookery objects`

use std::fmt;
use std::process::ExitCode;

use rookery_proto::v1::{self, ListObjectsRequest, ObjectOrder};
use serde::Serialize;

use super::admin::{Admin, DEADLINE};
use super::views::{hex, table};
use super::{block_on, show};
use crate::cli::Cli;
use crate::cli::farm::{Objects, Sort};
use crate::text;

pub(crate) fn run(cli: &Cli, objects: &Objects) -> anyhow::Result<ExitCode> {
    let order = match objects.sort {
        Sort::Name => ObjectOrder::Name,
        Sort::Size => ObjectOrder::Size,
        Sort::Access => ObjectOrder::LastAccess,
        Sort::Requests => ObjectOrder::Requests,
    };
    let view = block_on(async {
        let mut admin = Admin::connect(cli, &objects.admin, DEADLINE)?;
        let request = ListObjectsRequest {
            name: objects.name.clone(),
            replica_id: objects.replica.clone(),
            state: objects.state.map_or("", |state| state.as_str()).to_owned(),
            order: order.into(),
            descending: objects.reverse,
            limit: objects.limit,
        };
        let answer = admin.client.list_objects(request).await.map_err(|status| admin.explain(&status))?;
        Ok(ObjectsView::from(answer.into_inner()))
    })?;
    show(cli, &view)
}

#[derive(Debug, Serialize)]
struct ObjectsView {
    objects: Vec<ObjectView>,
    matching: u64,
    matching_bytes: u64,
}

#[derive(Debug, Serialize)]
struct ObjectView {
    names: Vec<String>,
    blake2b: String,
    size_bytes: u64,
    state: String,
    pinned: bool,
    replicas: Vec<String>,
    requests: u64,
    boxes: u64,
    last_access_ms: i64,
    verified_ms: i64,
}

impl From<v1::ListObjectsResponse> for ObjectsView {
    fn from(answer: v1::ListObjectsResponse) -> Self {
        let view = |object: v1::CachedObject| ObjectView {
            names: object.names,
            blake2b: hex(&object.blake2b),
            size_bytes: object.size_bytes,
            state: object.state,
            pinned: object.pinned,
            replicas: object.replicas,
            requests: object.requests,
            boxes: object.boxes,
            last_access_ms: object.last_access_ms,
            verified_ms: object.verified_ms,
        };
        Self {
            objects: answer.objects.into_iter().map(view).collect(),
            matching: answer.matching,
            matching_bytes: answer.matching_bytes,
        }
    }
}

impl fmt::Display for ObjectsView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = table(&["file", "size", "state", "requests", "boxes", "last asked for", "copies"]);
        for object in &self.objects {
            let name = if object.names.is_empty() {
                object.blake2b.chars().take(16).collect()
            } else {
                object.names.join(" ")
            };
            let pinned = if object.pinned { ", pinned" } else { "" };
            table.add_row([
                name,
                text::bytes(object.size_bytes),
                format!("{}{pinned}", object.state),
                text::count(object.requests),
                text::count(object.boxes),
                text::moment(object.last_access_ms),
                text::count(object.replicas.len() as u64),
            ]);
        }
        if !self.objects.is_empty() {
            writeln!(f, "{table}\n")?;
        }
        let (files, size) = (text::plural(self.matching, "file"), text::bytes(self.matching_bytes));
        match self.matching.saturating_sub(self.objects.len() as u64) {
            0 => writeln!(f, "{files}, {size}."),
            more => writeln!(f, "{files}, {size}; {} more than are shown (--limit).", text::count(more)),
        }
    }
}
