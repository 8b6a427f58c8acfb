//! One miss, followed through all processes.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::checks::{nothing_secret, text};
use super::command::eventually;
use super::farm::Farm;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// OTLP's numbers for kinds of spans.
const SERVER: u64 = 2;
const CLIENT: u64 = 3;

/// Longer than the services take to send what they traced.
const EXPORT_PATIENCE: Duration = Duration::from_secs(30);

/// More than a small file ever takes, less than any export's time limit together.
const PROMPT_S: f64 = 4.0;

/// A client that is traced misses: one trace, through proxy-cache, maintenance and upstream.
pub(super) fn one_miss(farm: &Farm<'_>) -> Result<()> {
    let context = format!("00-{TRACE}-{PARENT}-01");
    farm.client("rookery-e2e-traced", "--rm", &["get", "traced-1.tar", "--traceparent", &context])
        .output()?;
    let (trace, all) = eventually("the whole trace has arrived", EXPORT_PATIENCE, || {
        let all = farm.tell("traces", &["spans"])?;
        let spans = all.as_array().into_iter().flatten();
        let trace: Vec<Value> = spans.filter(|span| span["trace"] == TRACE).cloned().collect();
        let whole =
            ["http_request", "fetch", "fetch_source"].iter().all(|name| by_name(&trace, name).is_some())
                && ["AcquireFetch", "CommitFetch"].iter().all(|call| both_sides(&trace, call).is_some());
        Ok(whole.then_some((trace, all)))
    })?;
    print(&trace, PARENT, 1);
    let span = |name: &str| by_name(&trace, name).with_context(|| format!("no span {name}"));
    let is_child = |child: &Value, parent: &Value| child["parent"] == parent["id"];

    let request = span("http_request")?;
    ensure!(
        request["service"] == "proxy-cache" && request["kind"] == SERVER,
        "the request's span: {request}"
    );
    ensure!(request["parent"] == PARENT, "the request is not the client's child: {request}");
    let fetch = span("fetch")?;
    ensure!(is_child(fetch, request), "the fetch is not the request's child: {fetch}");
    let source = span("fetch_source")?;
    ensure!(source["kind"] == CLIENT && is_child(source, fetch), "the upstream's span: {source}");
    let (asked, answered) = both_sides(&trace, "AcquireFetch").context("no AcquireFetch")?;
    ensure!(asked["service"] == "proxy-cache" && is_child(asked, fetch), "proxy-cache's call: {asked}");
    ensure!(
        answered["service"] == "maintenance" && is_child(answered, asked),
        "maintenance's side: {answered}"
    );
    // It is sent when the request is over, and belongs to it all the same.
    let report = span("report")?;
    ensure!(is_child(report, fetch), "the report is not the fetch's child: {report}");
    let (told, heard) = both_sides(&trace, "CommitFetch").context("no CommitFetch")?;
    ensure!(is_child(told, report) && is_child(heard, told), "the commit's two sides: {told} {heard}");
    let ids: Vec<&Value> = trace.iter().map(|span| &span["id"]).collect();
    let orphan = trace.iter().find(|span| span["parent"] != PARENT && !ids.contains(&&span["parent"]));
    ensure!(orphan.is_none(), "a span of the trace has no parent in it: {orphan:?}");

    let upstream = farm.tell("upstream", &["exchanges", &path_of(farm, "traced-1.tar")?])?;
    let sent = text(&upstream[0]["traceparent"]);
    let expected = format!("00-{TRACE}-{}-01", text(&source["id"]));
    ensure!(sent == expected, "the upstream was told {sent:?} instead of {expected:?}");
    nothing_secret(farm, &all)
}

/// While the collector refuses everything, a miss is as fast as ever.
pub(super) fn refused(farm: &Farm<'_>) -> Result<()> {
    farm.tell("traces", &["refuse"])?;
    let said = farm.client("rookery-e2e-refused", "--rm", &["get", "refused-1.tar"]).output()?;
    farm.tell("traces", &["accept"])?;
    let said: Value = serde_json::from_str(said.trim())?;
    let seconds = said["seconds"].as_f64().context("how long it took")?;
    ensure!(seconds < PROMPT_S, "a miss took {seconds} s while the collector refused traces");
    println!("  a miss while the collector refuses all traces: {seconds:.2} s");
    Ok(())
}

/// Where mirrors have one of the plan's extra files.
pub(super) fn path_of(farm: &Farm<'_>, name: &str) -> Result<String> {
    let plan: Value = serde_json::from_slice(&std::fs::read(farm.dir.join("plan.json"))?)?;
    let file = plan["extra"].as_array().into_iter().flatten().find(|file| file["name"] == name);
    Ok(text(&file.with_context(|| format!("the plan has no {name}"))?["path"]).to_owned())
}

fn by_name<'a>(trace: &'a [Value], name: &str) -> Option<&'a Value> {
    trace.iter().find(|span| span["name"] == name)
}

/// The caller's and the answerer's span of one call.
fn both_sides<'a>(trace: &'a [Value], call: &str) -> Option<(&'a Value, &'a Value)> {
    let side =
        |kind: u64| trace.iter().find(|span| text(&span["name"]).ends_with(call) && span["kind"] == kind);
    Some((side(CLIENT)?, side(SERVER)?))
}

/// The spans below `parent`, indented, oldest first.
fn print(trace: &[Value], parent: &str, depth: usize) {
    if depth == 1 {
        println!("  trace {TRACE}, from the client's span {parent}");
    }
    let mut children: Vec<&Value> = trace.iter().filter(|span| span["parent"] == parent).collect();
    children.sort_by_key(|span| span["start_ns"].as_u64());
    for span in children {
        let took_ns =
            span["end_ns"].as_u64().unwrap_or(0).saturating_sub(span["start_ns"].as_u64().unwrap_or(0));
        let kind = match span["kind"].as_u64() {
            Some(SERVER) => " (server)",
            Some(CLIENT) => " (client)",
            _ => "",
        };
        println!(
            "  {:indent$}{} {}{kind}: {}.{:01} ms, span {}",
            "",
            text(&span["service"]),
            text(&span["name"]),
            took_ns / 1_000_000,
            took_ns / 100_000 % 10,
            text(&span["id"]),
            indent = depth * 2
        );
        print(trace, text(&span["id"]), depth + 1);
    }
}
