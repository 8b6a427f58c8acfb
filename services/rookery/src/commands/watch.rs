//! `rookery watch`: the status, kept live.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use rookery_proto::v1::GetStatusRequest;

use super::admin::{Admin, DEADLINE};
use super::meter::interruptible;
use super::views::StatusView;
use super::{block_on, print, print_json};
use crate::cli::Cli;
use crate::cli::farm::Watch;

/// Home, and what is below it is gone: the screen doesn't flicker as it does when it is cleared first.
const HOME: &str = "\x1b[H";
const CLEAR_BELOW: &str = "\x1b[J";
const CLEAR_LINE_END: &str = "\x1b[K\n";

pub(crate) fn run(cli: &Cli, watch: &Watch) -> anyhow::Result<ExitCode> {
    let on_screen = std::io::stdout().is_terminal() && !cli.json;
    let watched = block_on(interruptible(async {
        let mut admin = Admin::connect(cli, &watch.admin, DEADLINE)?;
        let mut looks = 0;
        if on_screen {
            print("\x1b[2J")?;
        }
        loop {
            looks += 1;
            let is_last = watch.count.is_some_and(|count| looks >= count);
            match admin.client.get_status(GetStatusRequest {}).await {
                Ok(answer) => {
                    let view = StatusView::from(answer.into_inner());
                    if cli.json {
                        print_json(&view)?;
                    } else if on_screen {
                        let text = view.to_string().replace('\n', CLEAR_LINE_END);
                        print(format!("{HOME}{text}{CLEAR_BELOW}"))?;
                    } else {
                        print(format!("{}\n", view.line()))?;
                    }
                }
                // Somebody who watches wants to see it come back as well.
                Err(status) if !is_last => {
                    let error = admin.explain(&status);
                    let before = if on_screen { HOME } else { "" };
                    print(format!("{before}{error}{}", if on_screen { CLEAR_LINE_END } else { "\n" }))?;
                }
                Err(status) => return Err(admin.explain(&status)),
            }
            if is_last {
                return Ok(ExitCode::SUCCESS);
            }
            tokio::time::sleep(Duration::from_secs(watch.interval)).await;
        }
    }))?;
    if watched.is_none() && on_screen {
        // The terminal has put ^C where the next line begins.
        print("\n")?;
    }
    Ok(watched.unwrap_or(ExitCode::SUCCESS))
}
