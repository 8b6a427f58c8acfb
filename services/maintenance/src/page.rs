//! The status page for people: no script, nothing loaded from elsewhere, readable in a text browser.

use std::fmt::Write as _;

use rookery_proto::v1::{GetStatusResponse, Savings};

use crate::text::{age, bytes, html};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
    table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.2rem .8rem .2rem 0}\
    td.n,th.n{text-align:right}.bad{color:#b00020}.good{color:#1b7f3b}\
    @media(prefers-color-scheme:dark){body{background:#16181c;color:#ddd}.bad{color:#ff6b7d}.good{color:#6ad08a}}";

/// The whole page. `unready` is what /readyz says, `now_ms` what ages are counted from.
pub(crate) fn render(status: &GetStatusResponse, unready: &[(String, String)], now_ms: i64) -> String {
    let mut body = String::new();
    state(&mut body, status, unready);
    modules(&mut body, status, now_ms);
    replicas(&mut body, status, now_ms);
    savings(&mut body, status, now_ms);
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Rookery</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><meta http-equiv=\"refresh\" content=\"10\">\
         <style>{STYLE}</style><h1>Rookery</h1>{body}\
         <p><a href=\"/status.json\">status.json</a> · <a href=\"/metrics\">metrics</a> · version {}</p></html>\n",
        html(&status.version)
    )
}

fn state(body: &mut String, status: &GetStatusResponse, unready: &[(String, String)]) {
    if unready.is_empty() && status.problems.is_empty() {
        body.push_str("<p class=\"good\">All is well.</p>");
        return;
    }
    body.push_str("<ul>");
    for (part, reason) in unready {
        let _ = write!(body, "<li class=\"bad\">not ready: {}: {}</li>", html(part), html(reason));
    }
    for problem in &status.problems {
        let _ = write!(
            body,
            "<li><b class=\"bad\">{}</b>: {}. <i>{}</i></li>",
            html(&problem.subject),
            html(&problem.what),
            html(&problem.what_to_do)
        );
    }
    body.push_str("</ul>");
}

fn modules(body: &mut String, status: &GetStatusResponse, now_ms: i64) {
    body.push_str(
        "<h2>Trees</h2><table><tr><th>module<th class=\"n\">generation<th class=\"n\">age\
         <th class=\"n\">files<th class=\"n\">size<th class=\"n\">distfiles<th>verified",
    );
    for one in &status.modules {
        let Some(module) = &one.module else { continue };
        let live = module.live.clone().unwrap_or_default();
        let _ = write!(
            body,
            "<tr><td>{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}\
             <td class=\"n\">{}<td>{}",
            html(&module.name),
            live.number,
            ago(live.timestamp_ms, now_ms),
            live.files,
            bytes(live.bytes),
            one.catalogue_distfiles,
            html(&module.verify)
        );
    }
    body.push_str("</table>");
}

fn replicas(body: &mut String, status: &GetStatusResponse, now_ms: i64) {
    body.push_str(
        "<h2>Replicas</h2><table><tr><th>replica<th class=\"n\">blobs<th class=\"n\">used\
         <th class=\"n\">capacity<th>heard of",
    );
    for replica in &status.replicas {
        let heard = if replica.connected {
            "connected".to_owned()
        } else {
            format!("{} ago", ago(replica.last_seen_ms, now_ms))
        };
        let _ = write!(
            body,
            "<tr><td>{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}<td>{heard}",
            html(&replica.replica_id),
            replica.blobs,
            bytes(replica.used_bytes),
            bytes(replica.capacity_bytes)
        );
    }
    body.push_str("</table>");
    if !status.leases.is_empty() {
        body.push_str("<h2>Downloads</h2><ul>");
        for lease in &status.leases {
            let _ = write!(
                body,
                "<li>{}: {} of {} by {}</li>",
                html(&lease.name),
                bytes(lease.bytes_so_far),
                bytes(lease.size_bytes),
                html(&lease.replica_id)
            );
        }
        body.push_str("</ul>");
    }
}

fn savings(body: &mut String, status: &GetStatusResponse, now_ms: i64) {
    let savings = status.savings.unwrap_or_default();
    let last = if status.last_eviction_ms == 0 {
        "never".to_owned()
    } else {
        format!("{} ago", ago(status.last_eviction_ms, now_ms))
    };
    let in_short = |savings: Option<Savings>| {
        let Savings { requests, hits, bytes_served, bytes_fetched } = savings.unwrap_or_default();
        let saved = bytes(bytes_served.saturating_sub(bytes_fetched));
        format!("{requests} requests, {hits} from the cache, {saved} saved")
    };
    let (today, thirty) = (in_short(status.today), in_short(status.thirty_days));
    let run = last_run(status, now_ms);
    let _ = write!(
        body,
        "<h2>Since the index was made</h2><p>{} requests, {} answered from the cache. {} served, {} fetched \
         from upstream: {} saved.</p><p>Today (UTC): {today}. Thirty days: {thirty}.</p><p>{run}</p>\
         <p>Last eviction: {last}. Decisions not acknowledged yet: {}.</p>",
        savings.requests,
        savings.hits,
        bytes(savings.bytes_served),
        bytes(savings.bytes_fetched),
        bytes(savings.bytes_served.saturating_sub(savings.bytes_fetched)),
        status.decisions_pending
    );
}

fn last_run(status: &GetStatusResponse, now_ms: i64) -> String {
    let Some(run) = &status.last_run else { return "No nightly run yet.".to_owned() };
    let steps: Vec<_> =
        run.steps.iter().map(|step| html(&format!("{}: {}", step.name, step.report))).collect();
    let outcome = if run.outcome.is_empty() { "under way" } else { &run.outcome };
    format!(
        "Last nightly run: {} ago, {}.<br>{}",
        ago(run.started_ms, now_ms),
        html(outcome),
        steps.join("<br>")
    )
}

fn ago(then_ms: i64, now_ms: i64) -> String {
    if then_ms == 0 {
        return "–".to_owned();
    }
    age(u64::try_from(now_ms.saturating_sub(then_ms)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use rookery_proto::v1::Problem;

    use super::*;

    #[test]
    fn page_escapes_what_peers_said() {
        let status = GetStatusResponse {
            problems: vec![Problem {
                subject: "replica <script>".to_owned(),
                what: "x & y".to_owned(),
                ..Problem::default()
            }],
            ..GetStatusResponse::default()
        };
        let page = render(&status, &[("catalogue".to_owned(), "a<b".to_owned())], 0);
        assert!(!page.contains("<script>"));
        assert!(
            page.contains("replica &lt;script&gt;") && page.contains("x &amp; y") && page.contains("a&lt;b")
        );
        assert!(render(&GetStatusResponse::default(), &[], 0).contains("All is well"));
    }
}
