//! The real Portage as the client: what it syncs and fetches, and what it refuses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context, Result, ensure};
use farm_sim::boxes::differences;
use farm_sim::tree::{GeneratedDistfile, REPOSITORY, Restriction};
use rookery_tests::farm::{Farm, Verify, eventually};
use rookery_tests::portage::{Finished, PortageBox, Settings, SigningKey};
use rookery_tests::program;

const UP_TO_DATE: &str = "You are already up to date";
const VERIFIED: &str = "Valid OpenPGP signature found";

fn publish(farm: &Farm) -> Result<Output> {
    Ok(farm.rookery().args(["publish", "gentoo-portage"]).output()?)
}

fn publish_well(farm: &Farm) -> Result<()> {
    let output = publish(farm)?;
    ensure!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), farm.log_end());
    Ok(())
}

async fn sync(portage_box: &PortageBox, farm: &Farm) -> Result<Finished> {
    portage_box.emerge(&["--sync"]).await?.success().with_context(|| farm.log_end())
}

/// Makes Portage sync although the time on the mirror is the one that it has.
fn forget_time(portage_box: &PortageBox) -> Result<()> {
    Ok(fs::remove_file(portage_box.repository().join("metadata/timestamp.chk"))?)
}

#[tokio::test(flavor = "multi_thread")]
async fn emerge_syncs_a_plain_tree_and_again_when_it_changed() -> Result<()> {
    let mut farm = Farm::start(&[]).await?;
    let settings = Settings { sync_uri: farm.sync_uri(), ..Settings::default() };
    let portage_box = PortageBox::create(&farm.dir().join("box"), &settings).await?;

    sync(&portage_box, &farm).await?;
    assert_eq!(differences(&farm.tree.dir, &portage_box.repository())?, []);
    let again = sync(&portage_box, &farm).await?;
    assert!(again.output.contains(UP_TO_DATE), "{}", again.output);

    farm.bump_tree(1)?;
    let unpublished = sync(&portage_box, &farm).await?;
    assert!(unpublished.output.contains(UP_TO_DATE), "{}", unpublished.output);
    publish_well(&farm)?;
    let bumped = sync(&portage_box, &farm).await?;
    assert!(!bumped.output.contains(UP_TO_DATE), "{}", bumped.output);
    assert_eq!(differences(&farm.tree.dir, &portage_box.repository())?, []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_in_a_signed_tree_reaches_no_box() -> Result<()> {
    let keys = tempfile::tempdir()?;
    let key = SigningKey::generate(keys.path()).await?;
    let mut farm = Farm::prepare(20, Verify::Signed(key.public.clone())).await?;
    let settings =
        Settings { sync_uri: farm.sync_uri(), openpgp_key: Some(key.public.clone()), ..Settings::default() };
    let portage_box = PortageBox::create(&farm.dir().join("box"), &settings).await?;
    key.sign_tree(&portage_box, &farm.tree.dir).await?;
    farm.start_mirror().await?;

    let first = sync(&portage_box, &farm).await?;
    assert!(first.output.contains(VERIFIED), "{}", first.output);
    assert_eq!(differences(&farm.tree.dir, &portage_box.repository())?, []);

    // A later tree, well signed; then one octet of it is another one.
    farm.bump_tree(1)?;
    key.sign_tree(&portage_box, &farm.tree.dir).await?;
    let victim = ebuild_below(&farm.tree.dir)?;
    let path = farm.tree.dir.join(&victim);
    let good = fs::read(&path)?;
    let mut bad = good.clone();
    bad[0] ^= 1;
    fs::write(&path, &bad)?;
    let refused = publish(&farm)?;
    let message = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "published a flipped byte");
    assert!(message.contains(&victim.display().to_string()), "{} is not named: {message}", victim.display());

    // Boxes get the last good generation, which still proves itself.
    let meanwhile = sync(&portage_box, &farm).await?;
    assert!(meanwhile.output.contains(UP_TO_DATE), "{}", meanwhile.output);
    forget_time(&portage_box)?;
    let forced = sync(&portage_box, &farm).await?;
    assert!(forced.output.contains(VERIFIED), "{}", forced.output);
    assert_ne!(fs::read(portage_box.repository().join(&victim)).ok(), Some(bad));

    fs::write(&path, &good)?;
    publish_well(&farm)?;
    let healed = sync(&portage_box, &farm).await?;
    assert!(healed.output.contains(VERIFIED), "{}", healed.output);
    assert_eq!(fs::read(portage_box.repository().join(&victim))?, good);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolled_back_tree_is_taken_by_boxes_and_still_proves_itself() -> Result<()> {
    let keys = tempfile::tempdir()?;
    let key = SigningKey::generate(keys.path()).await?;
    let mut farm = Farm::prepare(20, Verify::Signed(key.public.clone())).await?;
    let settings =
        Settings { sync_uri: farm.sync_uri(), openpgp_key: Some(key.public.clone()), ..Settings::default() };
    let portage_box = PortageBox::create(&farm.dir().join("box"), &settings).await?;
    key.sign_tree(&portage_box, &farm.tree.dir).await?;
    farm.start_mirror().await?;
    let first = fs::read(farm.tree.dir.join("Manifest"))?;
    farm.bump_tree(1)?;
    key.sign_tree(&portage_box, &farm.tree.dir).await?;
    publish_well(&farm)?;
    sync(&portage_box, &farm).await?;
    assert_ne!(fs::read(portage_box.repository().join("Manifest"))?, first);

    let output = farm.rookery().args(["rollback", "gentoo-portage", "--to", "1"]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let back = sync(&portage_box, &farm).await?;
    assert!(back.output.contains(VERIFIED), "{}", back.output);
    assert_eq!(fs::read(portage_box.repository().join("Manifest"))?, first);

    // What the source still has is held back, and said so; its next tree is taken by everybody.
    publish_well(&farm)?;
    let status = farm.rookery().arg("status").output()?;
    assert!(String::from_utf8_lossy(&status.stdout).contains("rolled back from generation 2 to 1"));
    let listed = farm.rookery().arg("generations").output()?;
    assert!(String::from_utf8_lossy(&listed.stdout).contains("3 live, copy of 1"));
    farm.bump_tree(2)?;
    key.sign_tree(&portage_box, &farm.tree.dir).await?;
    publish_well(&farm)?;
    let forth = sync(&portage_box, &farm).await?;
    assert!(forth.output.contains(VERIFIED), "{}", forth.output);
    assert_eq!(differences(&farm.tree.dir, &portage_box.repository())?, []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn emerge_fetches_each_file_once_for_all_boxes() -> Result<()> {
    let mut farm = Farm::prepare(120, Verify::Consistent).await?;
    farm.start_mirror().await?;
    let settings =
        Settings { sync_uri: farm.sync_uri(), gentoo_mirrors: farm.mirror_url(), ..Settings::default() };
    let portage_box = PortageBox::create(&farm.dir().join("box"), &settings).await?;
    sync(&portage_box, &farm).await?;

    let free = chosen(&farm, Restriction::None, 6)?;
    fetch(&portage_box, &farm, &free).await?;
    // Another box, of which the mirror knows nothing: the same files, from the cache.
    fs::remove_dir_all(portage_box.distdir())?;
    fs::create_dir_all(portage_box.distdir())?;
    fetch(&portage_box, &farm, &free).await?;

    // As a `local` mirror it is asked for mirror-restricted files too, and finds them at their sources.
    let settings =
        Settings { sync_uri: farm.sync_uri(), local_mirrors: farm.mirror_url(), ..Settings::default() };
    portage_box.configure(&settings).await?;
    let restricted = chosen(&farm, Restriction::Mirror, 1)?;
    let before = farm.upstream.log().len();
    fetch(&portage_box, &farm, &restricted).await?;
    let log = farm.upstream.log();
    assert!(
        log[before..]
            .iter()
            .all(|exchange| exchange.header("user-agent").is_none_or(|ua| !ua.contains("Portage"))),
        "the box went past the mirror: {log:?}"
    );
    Ok(())
}

/// An overlay in git, as people have them: thin Manifests and no metadata cache.
fn write_overlay(work: &Path, source: &str, revision: u32) -> Result<()> {
    let write = |path: &str, text: String| {
        let path = work.join(path);
        fs::create_dir_all(path.parent().context("no parent")?)?;
        Ok::<_, anyhow::Error>(fs::write(path, text)?)
    };
    write("profiles/repo_name", "overlay\n".to_owned())?;
    write("metadata/layout.conf", format!("masters = {REPOSITORY}\nthin-manifests = true\n"))?;
    write("app-misc/thing/Manifest", format!("DIST thing-{revision}.tar 5 BLAKE2B {}\n", "ab".repeat(64)))?;
    let ebuild = format!(
        "EAPI=8\nDESCRIPTION=\"A thing\"\nHOMEPAGE=\"https://example.org\"\nSRC_URI=\"{source}/thing-{revision}.tar\"\n\
         LICENSE=\"MIT\"\nSLOT=\"0\"\nKEYWORDS=\"~amd64\"\n"
    );
    write(&format!("app-misc/thing/thing-{revision}.ebuild"), ebuild)?;
    for arguments in [&["init", "--quiet"][..], &["add", "--all"], &["commit", "--quiet", "--message=x"]] {
        let status = program::stock("git")
            .args(["-c", "user.name=A", "-c", "user.email=a@example.org"])
            .args(arguments)
            .current_dir(work)
            .status()?;
        ensure!(status.success(), "git {arguments:?}: {status}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_is_made_where_an_overlay_ships_none_so_that_its_sources_are_known() -> Result<()> {
    let mut farm = Farm::start(&[]).await?;
    let settings = Settings { sync_uri: farm.sync_uri(), ..Settings::default() };
    let portage_box = PortageBox::create(&farm.dir().join("box"), &settings).await?;
    sync(&portage_box, &farm).await?;
    let work = farm.dir().join("overlay");
    write_overlay(&work, "https://one.example", 1)?;
    farm.stop_mirror().await?;
    farm.configure(&format!(
        "[[sync.modules]]\nname = \"overlay\"\nsource = {{ git = \"file://{}\" }}\nverify = \"consistent\"\n\
         md5_cache = \"generate\"\npoll = \"1s\"\n[sync.pull]\negencache = \"{}\"\n",
        work.display(),
        portage_box.script("egencache")?.display()
    ))?;
    farm.start_mirror().await?;
    let copy = farm.dir().join("copy");
    let cached = |revision: u32| {
        let mut rsync = program::stock("rsync");
        rsync.args(["-rlpt", "--delete", &format!("rsync://{}/overlay/", farm.addresses.rsync)]).arg(&copy);
        let entry = copy.join(format!("metadata/md5-cache/app-misc/thing-{revision}"));
        let synced = rsync.status().is_ok_and(|status| status.success());
        let text = fs::read_to_string(entry).unwrap_or_default();
        synced && text.contains(&format!("SRC_URI=https://one.example/thing-{revision}.tar"))
    };
    eventually("the cache has the source", || cached(1)).await?;
    let status = farm.rookery().args(["--json", "status"]).output()?;
    let status: serde_json::Value = serde_json::from_slice(&status.stdout)?;
    let overlay =
        status["modules"].as_array().into_iter().flatten().find(|module| module["name"] == "overlay");
    let live = &overlay.context("no module overlay")?["live"];
    assert_eq!((&live["distfiles"], &live["distfiles_without_source"]), (&1.into(), &0.into()));

    // The next commit: only what is new is made.
    fs::remove_file(work.join("app-misc/thing/thing-1.ebuild"))?;
    write_overlay(&work, "https://one.example", 2)?;
    eventually("the cache has the next source", || cached(2)).await?;
    assert!(!copy.join("metadata/md5-cache/app-misc/thing-1").exists(), "{}", farm.log_end());
    Ok(())
}

/// Fetches the packages of `files` and compares every file with what it should hold and with the upstream's count.
async fn fetch(portage_box: &PortageBox, farm: &Farm, files: &[&GeneratedDistfile]) -> Result<()> {
    let atoms: Vec<String> = files.iter().map(|file| format!("={}", file.packages[0])).collect();
    let mut arguments = vec!["--fetchonly", "--nodeps"];
    arguments.extend(atoms.iter().map(String::as_str));
    portage_box.emerge(&arguments).await?.success().with_context(|| farm.log_end())?;
    for file in files {
        let fetched = fs::read(portage_box.distdir().join(&file.name)).with_context(|| file.name.clone())?;
        assert!(fetched == file.contents().to_bytes(), "{} differs", file.name);
        let count = farm.upstream.count_of_distfile(&file.name);
        assert_eq!((count.requests, count.bytes), (1, file.size_bytes), "{}", file.name);
    }
    Ok(())
}

/// Distfiles that their package needs with any USE flags.
fn chosen(farm: &Farm, restriction: Restriction, count: usize) -> Result<Vec<&GeneratedDistfile>> {
    let wanted = farm.tree.distfiles.iter().filter(|file| file.restriction == restriction);
    let files: Vec<_> =
        wanted.filter(|file| !file.name.contains("-doc-") && !file.name.contains('@')).take(count).collect();
    ensure!(files.len() == count, "the tree has only {} such files", files.len());
    Ok(files)
}

/// The path of an ebuild, relative to the tree.
fn ebuild_below(tree: &Path) -> Result<PathBuf> {
    let mut folders = vec![tree.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "ebuild") {
                return Ok(path.strip_prefix(tree)?.to_owned());
            }
        }
    }
    anyhow::bail!("no ebuild below {}", tree.display())
}
