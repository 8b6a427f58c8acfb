//! The stock client logs in, or does not.

use super::bench::Bench;

#[tokio::test(flavor = "multi_thread")]
async fn the_stock_client_logs_in_with_every_protocol() {
    let bench = Bench::plain().await;
    for options in [&[][..], &["--protocol=31"], &["--protocol=30"], &["--protocol=29"]] {
        let output = bench.rsync_as("larry", "moo", options, "private/header.txt").await;
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{options:?}: {text}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("header.txt"), "{options:?}");
    }
    assert!(bench.rsync_as("larry", "moo", &[], "strong/").await.status.success());
    // Only where this system has a user and a group of that name.
    let group = bench.rsync_as("root", "group-moo", &[], "private/").await;
    assert!(group.status.success(), "{}", String::from_utf8_lossy(&group.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_with_a_login_the_answer_is_the_same() {
    let bench = Bench::plain().await;
    for (user, password) in
        [("larry", "mo"), ("larry", "moo "), ("eve", "moo"), ("mallory", "moo"), ("nobody", "x")]
    {
        let output = bench.rsync_as(user, password, &[], "private/").await;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(5), "{user}: {text}");
        assert!(text.contains("@ERROR: auth failed on module private\n"), "{user}: {text}");
    }
}
