//! Waiting for what takes long: maintenance is asked how far it is until its answer comes.

use std::convert::Infallible;
use std::future::Future;

use rookery_proto::v1::{GetProgressRequest, Progress};

use super::admin::Admin;
use super::meter::{ASK_EVERY, At, Meter};
use crate::cli::Cli;
use crate::text;

/// What the answer of `call` is, showing meanwhile how far the one is that `is_it` picks. That it can't be
/// asked for is no reason to give up the answer.
pub(super) async fn answer<T>(
    cli: &Cli,
    admin: &Admin,
    is_it: impl Fn(&Progress) -> bool,
    call: impl Future<Output = T>,
) -> T {
    if cli.json {
        return call.await;
    }
    let mut client = admin.client.clone();
    let mut meter = Meter::new(cli);
    let mut showing = async || -> Infallible {
        loop {
            tokio::time::sleep(ASK_EVERY).await;
            let Ok(answer) = client.get_progress(GetProgressRequest {}).await else { continue };
            if let Some(progress) = answer.into_inner().under_way.iter().find(|one| is_it(one)) {
                show(&mut meter, progress);
            }
        }
    };
    tokio::select! {
        answer = call => answer,
        never = showing() => match never {},
    }
}

fn show(meter: &mut Meter, progress: &Progress) {
    let step = if progress.steps > 0 {
        format!("{} ({} of {})", progress.what, progress.steps_done + 1, progress.steps)
    } else if progress.what.is_empty() {
        progress.kind.clone()
    } else {
        format!("{} {}", progress.kind, progress.what)
    };
    let more = if progress.bytes > 0 {
        format!("{} of {}", text::bytes(progress.bytes_done), text::bytes(progress.bytes))
    } else {
        String::new()
    };
    meter.at(&At {
        step: &step,
        unit: &progress.unit,
        done: progress.done,
        total: progress.total,
        more: &more,
    });
}
