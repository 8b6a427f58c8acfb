//! What takes long, on a terminal and elsewhere: what is drawn, and what Ctrl-C leaves behind.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use anyhow::{Context as _, Result};
use rookery_proto::v1::cache_index_client::CacheIndexClient;
use rookery_proto::v1::{
    Decision, ImportProgress, ImportReport, RegisterRequest, ReportImportProgressRequest,
    ReportImportRequest, WatchDecisionsRequest,
};
use rookery_tests::farm::{Farm, eventually};
use rookery_tests::program;
use rookery_tests::terminal::Terminal;
use service_kit::Kit;
use tonic::Streaming;
use tonic::transport::Channel;

/// Of the program that ran on it, once it has ended; `None` if a signal ended it.
async fn exit_code(terminal: &mut Terminal) -> Result<Option<i32>> {
    let mut ended = None;
    eventually("it ends", || {
        ended = terminal.ended().ok().flatten();
        ended.is_some()
    })
    .await?;
    Ok(ended.and_then(|status| status.code()))
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_draws_again_and_again_and_ends_with_ctrl_c_as_if_it_had_not_been_there() -> Result<()> {
    let farm = Farm::start(&[]).await?;
    let mut command = farm.rookery();
    command.args(["watch", "--interval", "1"]);
    let mut terminal = Terminal::start(&command)?;
    let before = terminal.settings()?;
    let looks = |drawn: &str| drawn.matches("\x1b[H").count();
    eventually("it draws a second time", || looks(&terminal.drawn()) >= 2).await?;
    let drawn = terminal.drawn();
    assert!(drawn.starts_with("\x1b[2J") && drawn.contains("gentoo-portage"), "{drawn:?}");
    assert!(!drawn.contains("\x1b[?"), "neither cursor nor screen is switched: {drawn:?}");
    terminal.press("\x03")?;
    assert_eq!(exit_code(&mut terminal).await?, Some(0), "{:?}", terminal.drawn());
    assert_eq!(terminal.settings()?, before);
    eventually("the next line is a new one", || terminal.drawn().ends_with('\n')).await
}

/// maintenance, and a replica that does as the test says.
struct Stand {
    _dir: tempfile::TempDir,
    kit: Kit,
    endpoint: String,
    client: CacheIndexClient<Channel>,
    decisions: Streaming<Decision>,
}

impl Stand {
    async fn start() -> Result<Self> {
        service_kit::process::install_crypto_provider();
        let dir = tempfile::tempdir()?;
        let kit = Kit::default();
        let config = maintenance::Config {
            listen: ([127, 0, 0, 1], 0).into(),
            web: ([127, 0, 0, 1], 0).into(),
            index: maintenance::IndexUrl::from_path(&dir.path().join("index.db"))?,
            ..maintenance::Config::default()
        };
        let running = maintenance::start(config, &kit).await?;
        let endpoint = format!("http://{}", running.grpc_addr);
        let mut client = CacheIndexClient::connect(endpoint.clone()).await?;
        let replica_id = "r1".to_owned();
        client.register(RegisterRequest { replica_id: replica_id.clone(), ..Default::default() }).await?;
        let decisions = client.watch_decisions(WatchDecisionsRequest { replica_id }).await?.into_inner();
        Ok(Self { _dir: dir, kit, endpoint, client, decisions })
    }

    fn import(&self) -> std::process::Command {
        let mut command = std::process::Command::new(program::rookery());
        command.args(["import", "/var/cache/distfiles", "--endpoint", &self.endpoint]);
        command
    }

    /// The import that was asked for has come, and is so far.
    async fn begin(&mut self, files_done: u64) -> Result<String> {
        let decision = self.decisions.message().await?.context("the stream never ends")?;
        self.tell(&decision.id, files_done).await?;
        Ok(decision.id)
    }

    async fn tell(&mut self, decision_id: &str, files_done: u64) -> Result<()> {
        let told = ImportProgress {
            dir: "/var/cache/distfiles".to_owned(),
            files_done,
            files: 200,
            bytes_done: files_done << 20,
            bytes: 200 << 20,
        };
        let request = ReportImportProgressRequest {
            replica_id: "r1".to_owned(),
            decision_id: decision_id.to_owned(),
            progress: Some(told),
        };
        self.client.report_import_progress(request).await?;
        Ok(())
    }

    async fn finish(&mut self, decision_id: String) -> Result<()> {
        let report = ImportReport { dir: "/var/cache/distfiles".to_owned(), ..ImportReport::default() };
        let request = ReportImportRequest { replica_id: "r1".to_owned(), decision_id, reports: vec![report] };
        self.client.report_import(request).await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_draws_a_bar_and_erases_it_and_ctrl_c_ends_only_the_waiting() -> Result<()> {
    let mut stand = Stand::start().await?;
    let mut terminal = Terminal::start(&stand.import())?;
    let before = terminal.settings()?;
    let decision = stand.begin(40).await?;
    eventually("the bar", || terminal.drawn().contains("40 of 200 files, 40.0 MiB of 200.0 MiB")).await?;
    stand.tell(&decision, 150).await?;
    eventually("it moves", || terminal.drawn().contains("150 of 200 files")).await?;
    stand.finish(decision).await?;
    assert_eq!(exit_code(&mut terminal).await?, Some(0));
    eventually("the report", || terminal.drawn().contains("it is empty")).await?;
    let drawn = terminal.drawn();
    let after_bar = drawn.rsplit("of 200 files").next().unwrap_or_default();
    assert!(after_bar.contains("\r\x1b[2K"), "the bar is erased: {after_bar:?}");
    assert_eq!(terminal.settings()?, before);

    let mut terminal = Terminal::start(&stand.import())?;
    let decision = stand.begin(7).await?;
    eventually("the bar", || terminal.drawn().contains("7 of 200 files")).await?;
    terminal.press("\x03")?;
    assert_eq!(exit_code(&mut terminal).await?, Some(130));
    assert!(terminal.drawn().contains("interrupted; a replica that has begun goes on"));
    assert!(!terminal.drawn().contains("\x1b[?25l") || terminal.drawn().contains("\x1b[?25h"));
    assert_eq!(terminal.settings()?, before);
    // The replica has begun, and its report is taken although nobody waits for it.
    stand.finish(decision).await?;
    stand.kit.tasks.finish().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn elsewhere_an_import_says_it_in_lines_and_to_programs_nothing_but_the_answer() -> Result<()> {
    let mut stand = Stand::start().await?;
    for is_json in [false, true] {
        let mut command = stand.import();
        if is_json {
            command.arg("--json");
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut said = BufReader::new(child.stderr.take().context("no standard error")?);
        let decision = stand.begin(40).await?;
        let (first, mut said) = tokio::task::spawn_blocking(move || {
            let mut first = String::new();
            if !is_json {
                said.read_line(&mut first)?;
            }
            anyhow::Ok((first, said))
        })
        .await??;
        stand.finish(decision).await?;
        let output = tokio::task::spawn_blocking(|| child.wait_with_output()).await??;
        let mut err = first;
        said.read_to_string(&mut err)?;
        let out = String::from_utf8(output.stdout)?;
        assert!(output.status.success() && !out.contains('\x1b'), "{out}{err}");
        if is_json {
            assert_eq!((err.as_str(), out.lines().count()), ("", 1), "{out}");
        } else {
            // It may have asked before the replica said anything.
            let lines = [" 40 of 200 files, 40.0 MiB of 200.0 MiB\n", " …\n"];
            let said = err.strip_prefix("import /var/cache/distfiles").unwrap_or_default();
            assert!(lines.contains(&said), "{err}");
        }
    }
    stand.kit.tasks.finish().await;
    Ok(())
}
