//! docs/json.md against what the program prints: each field is documented, and what is documented is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;

use anyhow::{Context as _, Result};
use farm_sim::upstream::{Fault, Gate};
use rookery_proto::v1::RegisterRequest;
use rookery_proto::v1::cache_index_client::CacheIndexClient;
use rookery_tests::cache_check;
use rookery_tests::distfile::ExtraDistfile;
use rookery_tests::farm::{Farm, eventually};
use serde_json::Value;

/// Names of fields, those of lists with `[]`.
type Fields = BTreeSet<String>;

/// What the document says, by command.
struct Document(BTreeMap<String, Fields>);

impl Document {
    fn read() -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/json.md");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let shared = |what: &str| {
            let from = text.find(&format!("A *{what}*:")).with_context(|| format!("no *{what}*"))?;
            let paragraph = text[from..].split("\n\n").next().unwrap_or_default();
            anyhow::Ok(fields(paragraph))
        };
        let shared = [("*generation*", shared("generation")?), ("*run*", shared("run")?)];
        let section = |title: &str| {
            let from = text.find(&format!("\n## {title}")).with_context(|| format!("no section {title}"))?;
            let body = &text[from + 3..];
            let body = body.split_once('\n').map_or("", |(_, body)| body);
            anyhow::Ok(body.split("\n## ").next().unwrap_or_default())
        };
        let mut commands = BTreeMap::new();
        let mut add = |command: &str, text: &str| {
            // The shared ones stand in the status section as well, but belong to who mentions them.
            let own = text.split("\n\nA *").next().unwrap_or_default();
            let mut found = fields(own);
            for (name, of_it) in &shared {
                if own.contains(name) {
                    found.extend(of_it.iter().cloned());
                }
            }
            commands.insert(command.to_owned(), found);
        };
        add("status", section("`status`")?);
        let trees = section("`generations`")?;
        let (generations, rollback) = trees.split_once("`rollback`:").context("no rollback")?;
        add("generations", generations);
        add("rollback", &rollback.replace("`generation`", "`generation` (a *generation*)"));
        let evictions = section("`plan`")?;
        add("plan", evictions);
        let without_plan: Vec<_> =
            evictions.lines().filter(|line| !line.contains("only of `plan`")).collect();
        add("evict", &without_plan.join("\n"));
        for line in section("Others")?.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<_> = line.trim_matches('|').splitn(2, " | ").collect();
            let [command, fields] = cells[..] else { anyhow::bail!("an odd row: {line}") };
            add(
                command.trim().trim_matches('`'),
                &fields.replace("`generation`", "`generation` (a *generation*)"),
            );
        }
        Ok(Self(commands))
    }
}

/// What stands in backticks and looks like a field; what stands in parentheses are values and remarks.
fn fields(text: &str) -> Fields {
    let (mut plain, mut depth) = (String::new(), 0);
    for character in text.chars() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 => plain.push(character),
            _ => {}
        }
    }
    let is_field = |word: &&str| {
        let name = word.strip_suffix("[]").unwrap_or(word);
        !name.is_empty()
            && name.bytes().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'_')
    };
    plain.split('`').skip(1).step_by(2).filter(is_field).map(str::to_owned).collect()
}

/// The fields of an answer, at any depth.
fn printed(value: &Value, found: &mut Fields) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                found.insert(if value.is_array() { format!("{name}[]") } else { name.clone() });
                printed(value, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| printed(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Compares, with the row or section named by the command's first words.
struct Check<'a> {
    farm: &'a Farm,
    document: &'a Document,
    checked: Fields,
}

impl Check<'_> {
    fn answer(&self, arguments: &[&str], code: i32) -> Result<Value> {
        let output = self.farm.rookery().arg("--json").args(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        anyhow::ensure!(output.status.code() == Some(code), "{arguments:?}: {}\n{said}", output.status);
        let line = String::from_utf8(output.stdout)?;
        anyhow::ensure!(
            line.ends_with('\n') && line.lines().count() == 1,
            "{arguments:?}: not one line: {line}"
        );
        Ok(serde_json::from_str(&line)?)
    }

    fn check(&mut self, row: &str, arguments: &[&str], code: i32) -> Result<Value> {
        let answer = self.answer(arguments, code)?;
        self.compare(row, &answer)?;
        Ok(answer)
    }

    fn compare(&mut self, row: &str, answer: &Value) -> Result<()> {
        let documented = self.document.0.get(row).with_context(|| format!("docs/json.md has no {row}"))?;
        let mut found = Fields::new();
        printed(answer, &mut found);
        let unknown: Vec<_> = found.difference(documented).collect();
        anyhow::ensure!(unknown.is_empty(), "{row}: not in docs/json.md: {unknown:?}\n{answer}");
        let missing: Vec<_> = documented.difference(&found).collect();
        anyhow::ensure!(missing.is_empty(), "{row}: documented and not printed: {missing:?}\n{answer}");
        self.checked.insert(row.to_owned());
        Ok(())
    }
}

fn flip_byte(path: &Path) -> Result<()> {
    let mut bytes = fs::read(path)?;
    bytes[77] ^= 1;
    Ok(fs::write(path, bytes)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_is_documented_and_every_documented_field_is_there() -> Result<()> {
    let [passing, kept, slow] =
        ["passing-1.tar", "kept-1.tar", "slow-1.tar"].map(|name| ExtraDistfile::new(name, 3_000_000));
    let mut farm = Farm::start(&[passing.clone(), kept.clone(), slow.clone()]).await?;
    farm.stop_mirror().await?;
    // Whatever is to be deleted is asked about first.
    farm.configure("\n[maintenance.brakes]\nshare = \"0%\"\nfiles_min = 0\n")?;
    farm.start_mirror().await?;
    let document = Document::read()?;
    let mut of = Check { farm: &farm, document: &document, checked: Fields::new() };

    for file in [&passing, &kept] {
        let answer = reqwest::get(farm.distfile_url(&file.name)).await?.error_for_status()?;
        assert_eq!(answer.bytes().await?, file.contents.to_bytes());
    }
    eventually("both have their names", || {
        of.answer(&["objects"], 0).is_ok_and(|objects| objects["matching"] == 2)
    })
    .await?;
    fs::remove_dir_all(farm.tree.dir.join("app-test/passing"))?;
    fs::remove_file(farm.tree.dir.join("metadata/md5-cache/app-test/passing-1"))?;
    fs::write(farm.tree.dir.join("metadata/timestamp.chk"), "Sun, 18 Jan 2026 12:00:00 +0000\n")?;
    let chk = farm.tree.dir.join("metadata/timestamp.chk");
    let newer = fs::read(&chk)?;
    fs::write(&chk, "Sun, 18 Jan 2009 12:00:00 +0000\n")?;
    let refused = farm.rookery().args(["publish", "gentoo-portage"]).output()?;
    assert_eq!(refused.status.code(), Some(1));
    of.check("generations --refused", &["generations", "--refused"], 0)?;
    fs::write(&chk, newer)?;
    of.check("publish", &["publish", "gentoo-portage"], 0)?;
    eventually("the plan names it", || {
        of.answer(&["plan"], 0)
            .is_ok_and(|plan| plan["evictions"].as_array().is_some_and(|list| list.len() == 1))
    })
    .await?;
    of.check("plan", &["plan"], 0)?;
    of.check("evict", &["evict"], 3)?;
    of.check("objects", &["objects"], 0)?;
    of.check("pin NAME", &["pin", &kept.name], 0)?;
    of.check("pin", &["pin"], 0)?;
    of.check("unpin", &["unpin", &kept.name], 0)?;
    let gone = RegisterRequest { replica_id: "gone".to_owned(), ..RegisterRequest::default() };
    let endpoint = format!("http://{}", farm.addresses.index);
    CacheIndexClient::connect(endpoint).await?.register(gone).await?;
    of.check("forget", &["forget", "gone"], 0)?;

    let hex = hex::encode(passing.contents.digests().blake2b);
    flip_byte(&farm.cache_dir().join("r0/blobs").join(&hex[..2]).join(hex))?;
    of.check("verify", &["verify"], 4)?;
    of.check("nightly", &["nightly"], 0)?;

    while_something_is_under_way(&mut of, &slow).await?;
    of.check("rollback", &["rollback", "gentoo-portage"], 0)?;
    by_hand(&mut of)?;

    // `watch` repeats the status, `check-config` and `migrate` have no fields of their own, and `up` and `demo`
    // are programs that run.
    let elsewhere = ["check-config", "migrate", "up", "demo"].map(str::to_owned);
    let unchecked: Vec<_> =
        document.0.keys().filter(|row| !of.checked.contains(*row) && !elsewhere.contains(row)).collect();
    assert!(unchecked.is_empty(), "documented and never compared: {unchecked:?}");
    Ok(())
}

/// A download, a box that is being served, and a tree that is refused.
async fn while_something_is_under_way(of: &mut Check<'_>, slow: &ExtraDistfile) -> Result<()> {
    let farm = of.farm;
    let gate = Gate::closed();
    farm.upstream.add_fault(&slow.mirror_path(), Fault::Gated { after_bytes: 1_500_000, gate: gate.clone() });
    let mut under_way = reqwest::get(farm.distfile_url(&slow.name)).await?;
    under_way.chunk().await?;
    let mut rsync = TcpStream::connect(farm.addresses.rsync)?;
    rsync.write_all(b"@RSYNCD: 31.0\ngentoo-portage\n")?;
    let mut greeting = String::new();
    BufReader::new(rsync.try_clone()?).read_line(&mut greeting)?;
    fs::remove_file(farm.tree.dir.join("metadata/timestamp.chk"))?;
    assert!(!farm.rookery().args(["publish", "gentoo-portage"]).output()?.status.success());
    eventually("the download is known", || {
        of.answer(&["status"], 0)
            .is_ok_and(|status| status["leases"].as_array().is_some_and(|list| !list.is_empty()))
    })
    .await?;
    of.check("status", &["status"], 0)?;
    eventually("the box is known", || {
        let holds = |answer: Value| answer.to_string().contains("\"host\"");
        of.answer(&["generations"], 0).is_ok_and(holds)
    })
    .await?;
    of.check("generations", &["generations"], 0)?;
    gate.open();
    while under_way.chunk().await?.is_some() {}
    eventually("the warning is known", || {
        of.answer(&["health"], 0)
            .is_ok_and(|health| health["warnings"].as_array().is_some_and(|list| !list.is_empty()))
    })
    .await?;
    of.check("health", &["health"], 0)?;
    Ok(())
}

/// What asks no tree and no index.
fn by_hand(of: &mut Check<'_>) -> Result<()> {
    let farm = of.farm;
    let dir = farm.dir().join("distfiles");
    fs::create_dir(&dir)?;
    fs::write(dir.join("unknown.zip"), "what")?;
    of.check("import", &["import", dir.to_str().context("a path")?], 0)?;
    of.check("client-config", &["client-config"], 0)?;
    let old = farm.dir().join("http-replicator");
    fs::write(
        &old,
        "DAEMON_OPTS=\"--dir /var/cache/http-replicator --user portage --port 8080 --limit 100\"\n",
    )?;
    let migrated = of.answer(&["migrate", "--http-replicator", old.to_str().context("a path")?], 0)?;
    let top: Vec<_> = migrated.as_object().context("no object")?.keys().collect();
    assert_eq!(top, ["configuration", "notes"]);
    assert_eq!(cache_check::faults(&farm.cache_dir())?, Vec::<String>::new());
    Ok(())
}
