use service_kit::exit_code::Exit;

use super::*;

async fn run_and_stop(options: Options) -> Report {
    let dir = tempfile::tempdir().unwrap();
    let demo = run(options, dir.path()).await.unwrap();
    let report = demo.report.clone();
    demo.stop().await;
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_farm_is_all_right() {
    let report = run_and_stop(Options::small()).await;
    assert!(report.is_right(), "{report}");
    assert_eq!(report.exit(), Exit::Clean);
    assert_eq!(report.boxes.len(), 7);
    let Saved { box_requests, upstream_requests, box_bytes, upstream_bytes } = report.total;
    assert_eq!((box_requests, upstream_requests), (7 * (12 + 2), 12 + 7 * 2));
    assert!(upstream_bytes < box_bytes, "{report}");
    let text = report.to_string();
    assert!(text.contains("26 requests") && text.contains("each of the 12 shared ones"), "{text}");
    assert!(text.contains("own "), "its own clients are named: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_lies_by_one_request_is_noticed() {
    let lie = |upstream: &Upstream, shared: &[String]| upstream.lie_by_one_request(&shared[3]);
    let report = run_and_stop(Options { before_verdict: Some(Box::new(lie)), ..Options::small() }).await;
    assert!(!report.is_right());
    assert_eq!(report.exit(), Exit::Failed);
    assert_eq!(report.problems.len(), 1, "{report}");
    assert!(report.problems[0].ends_with("requested 2 times upstream"), "{report}");
    assert!(report.to_string().contains("NOT RIGHT"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn boxes_can_use_what_is_running() {
    let dir = tempfile::tempdir().unwrap();
    let demo = run(Options::small(), dir.path()).await.unwrap();
    let text = demo.how_to_use();
    assert!(
        text.contains("GENTOO_MIRRORS=\"http://127.0.0.1:") && text.contains("rsync://127.0.0.1:"),
        "{text}"
    );
    assert!(text.contains(&dir.path().display().to_string()), "{text}");
    assert!(dir.path().join("boxes/ws1/repo/metadata/timestamp.chk").is_file());
    demo.stop().await;
}
