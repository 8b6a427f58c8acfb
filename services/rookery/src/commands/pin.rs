//! `rookery pin` and `unpin`

use std::fmt;
use std::process::ExitCode;

use rookery_proto::v1::{ListPinsRequest, PinRequest, UnpinRequest};
use serde::Serialize;

use super::admin::{Admin, DEADLINE};
use super::views::table;
use super::{block_on, show};
use crate::cli::Cli;
use crate::cli::farm::{Pin, Unpin};
use crate::text;

pub(crate) fn pin(cli: &Cli, pin: &Pin) -> anyhow::Result<ExitCode> {
    let Some(name) = &pin.name else { return list(cli, pin) };
    let view = block_on(async {
        let mut admin = Admin::connect(cli, &pin.admin, DEADLINE)?;
        let request = PinRequest { name: name.clone(), note: pin.note.clone() };
        let answer = admin.client.pin(request).await.map_err(|status| admin.explain(&status))?.into_inner();
        Ok(PinnedView { name: name.clone(), blobs: answer.blobs, in_catalogue: answer.in_catalogue })
    })?;
    show(cli, &view)
}

pub(crate) fn unpin(cli: &Cli, unpin: &Unpin) -> anyhow::Result<ExitCode> {
    let name = &unpin.name;
    block_on(async {
        let mut admin = Admin::connect(cli, &unpin.admin, DEADLINE)?;
        let request = UnpinRequest { name: name.clone() };
        admin.client.unpin(request).await.map_err(|status| admin.explain(&status)).map(drop)
    })?;
    show(cli, &UnpinnedView { unpinned: name.clone() })
}

fn list(cli: &Cli, pin: &Pin) -> anyhow::Result<ExitCode> {
    let view = block_on(async {
        let mut admin = Admin::connect(cli, &pin.admin, DEADLINE)?;
        let answer = admin.client.list_pins(ListPinsRequest {}).await;
        let pins = answer.map_err(|status| admin.explain(&status))?.into_inner().pins.into_iter();
        let pins = pins.map(|pin| PinView {
            name: pin.name,
            note: pin.note,
            pinned_ms: pin.pinned_ms,
            blobs: pin.blobs,
        });
        Ok(PinsView { pins: pins.collect() })
    })?;
    show(cli, &view)
}

#[derive(Debug, Serialize)]
struct PinnedView {
    name: String,
    blobs: u64,
    in_catalogue: bool,
}

impl fmt::Display for PinnedView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match (self.blobs, self.in_catalogue) {
            (0, false) => writeln!(
                f,
                "{name} is pinned, but no replica and no catalogue knows the name: is it spelt right? It is kept \
                 from when it comes."
            ),
            (0, true) => writeln!(f, "{name} is pinned; no replica has it yet."),
            (copies, _) => {
                let copies = if copies == 1 { "1 copy".to_owned() } else { format!("{copies} copies") };
                writeln!(f, "{name} is pinned: {copies}.")
            }
        }
    }
}

#[derive(Debug, Serialize)]
struct UnpinnedView {
    unpinned: String,
}

impl fmt::Display for UnpinnedView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} is like any other file again.", self.unpinned)
    }
}

#[derive(Debug, Serialize)]
struct PinsView {
    pins: Vec<PinView>,
}

#[derive(Debug, Serialize)]
struct PinView {
    name: String,
    note: String,
    pinned_ms: i64,
    blobs: u64,
}

impl fmt::Display for PinsView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pins.is_empty() {
            return writeln!(f, "Nothing is pinned.");
        }
        let mut table = table(&["file", "copies", "since", "why"]);
        for pin in &self.pins {
            let since = text::moment(pin.pinned_ms);
            table.add_row([pin.name.clone(), text::count(pin.blobs), since, pin.note.clone()]);
        }
        writeln!(f, "{table}")
    }
}
