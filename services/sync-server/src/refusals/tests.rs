use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use tree_store::report::{FaultKind, Faults};
use tree_store::{BuildRequest, Built, Candidate, Excludes, Store, TreeError};

use super::*;

struct Scene {
    directory: tempfile::TempDir,
    store: Store,
    refusals: Refusals,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let module: ModuleName = "m".parse().unwrap();
        let refusals = Refusals::new(directory.path(), &module);
        let store = Store::open(directory.path(), module).unwrap();
        Self { directory, store, refusals }
    }

    fn candidate(&self, files: &[(&str, &[u8])]) -> Candidate {
        let source = self.directory.path().join("source");
        for (path, octets) in files {
            fs::create_dir_all(source.join(path).parent().unwrap()).unwrap();
            fs::write(source.join(path), octets).unwrap();
        }
        let excludes = Excludes::new::<&str>([]).unwrap();
        let request = BuildRequest {
            source: &source,
            excludes: &excludes,
            started: SystemTime::now(),
            afresh: false,
            stop: &AtomicBool::new(false),
        };
        match self.store.build(&request).unwrap() {
            Built::Candidate(candidate) => candidate,
            Built::Unchanged(_) => panic!("nothing to build"),
        }
    }

    fn keep(&self, candidate: &Candidate, faults: &[(&str, &str)], now_ms: u64) -> PathBuf {
        let mut all = Faults::default();
        for (path, why) in faults {
            all.push(Fault::new(FaultKind::Digest, path, *why));
        }
        let Err(TreeError::Refused(refusal)) = all.refuse() else { panic!("no fault") };
        self.refusals.keep("signed", candidate.generation(), &refusal, now_ms).unwrap()
    }
}

#[test]
fn a_report_names_each_fault_and_has_copies_of_the_files() {
    let scene = Scene::new();
    let large = vec![7; usize::try_from(FILE_BYTES_MAX).unwrap() + 1];
    let candidate = scene.candidate(&[("a/b", b"wrong"), ("large", &large)]);
    let faults = [("a/b", "x"), ("a/b", "y"), ("large", "z"), ("../../etc/passwd", "missing")];
    let place = scene.keep(&candidate, &faults, 5);
    let listed = scene.refusals.list().unwrap();
    let [(found, report)] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!((found, report.faults_count, report.files, report.times), (&place, 4, 2, 1));
    let copies: Vec<&str> = report.faults.iter().map(|fault| fault.copy.as_str()).collect();
    assert_eq!(copies, ["files/1", "files/1", "", ""], "once, and none of what is large or not in the tree");
    assert_eq!(fs::read(place.join("files/1")).unwrap(), b"wrong");
    let text = fs::read_to_string(place.join(TEXT)).unwrap();
    assert!(text.contains("digest: a/b: x\n    kept as files/1\n"), "{text}");
}

#[test]
fn the_same_faults_are_counted_and_the_oldest_reports_go() {
    let scene = Scene::new();
    let candidate = scene.candidate(&[("a", b"wrong")]);
    scene.keep(&candidate, &[("a", "x")], 1);
    scene.keep(&candidate, &[("a", "x")], 7);
    let listed = scene.refusals.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].1.refused_ms, listed[0].1.last_ms, listed[0].1.times), (1, 7, 2));
    for number in 2..=KEPT_MAX + 3 {
        scene.keep(&candidate, &[("a", &number.to_string())], 9);
    }
    let listed = scene.refusals.list().unwrap();
    assert_eq!(listed.len(), KEPT_MAX);
    assert_eq!(listed[0].1.faults[0].why, (KEPT_MAX + 3).to_string(), "the newest first");
    scene.refusals.clear();
    assert_eq!(scene.refusals.list().unwrap(), []);
    scene.refusals.clear();
}

#[test]
fn what_a_kill_left_is_in_nobodys_way() {
    let scene = Scene::new();
    let candidate = scene.candidate(&[("a", b"wrong")]);
    let refused = scene.directory.path().join(".refused/m");
    fs::create_dir_all(refused.join(".new/files/9")).unwrap();
    fs::create_dir_all(refused.join("3")).unwrap();
    fs::write(refused.join("3").join(REPORT), "{").unwrap();
    let place = scene.keep(&candidate, &[("a", "x")], 1);
    assert_eq!(place, refused.join("4"), "a damaged report is passed over");
    assert_eq!(scene.refusals.list().unwrap().len(), 1);
    assert!(!refused.join(".new").exists());
}
