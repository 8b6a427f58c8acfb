use std::os::unix::net::UnixDatagram;

use super::*;

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// What is behind the time, line by line.
fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| line.split_once(" [").map_or(line, |(_, rest)| rest).to_owned()).collect()
}

fn file(path: &Path) -> (Journal, Writer) {
    Journal::new(&LogTarget::File(path.to_owned()))
}

/// Writes what was handed in so far.
async fn drain(writer: &mut Writer) {
    while let Ok(Lines(lines)) = writer.lines.try_recv() {
        let len: usize = lines.iter().map(Vec::len).sum();
        writer.write(lines).await;
        writer.queue.waiting.fetch_sub(len, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_file_is_followed_by_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let (journal, mut writer) = file(&path);
    let now = Zoned::now();
    journal.write(1, &now, texts(&["one", "evil\nname"]));
    drain(&mut writer).await;
    assert_eq!(lines(&path), ["1] one", "1] evil\\#012name"]);
    assert!(std::fs::read_to_string(&path).unwrap().starts_with(&now.strftime(TIME).to_string()));
    // As logrotate does it, without a signal.
    std::fs::rename(&path, directory.path().join("log.1")).unwrap();
    journal.write(2, &now, texts(&["two"]));
    drain(&mut writer).await;
    std::fs::remove_file(&path).unwrap();
    journal.write(3, &now, texts(&["three"]));
    drain(&mut writer).await;
    assert_eq!(
        (lines(&path), lines(&directory.path().join("log.1")).len()),
        (vec!["3] three".to_owned()], 2)
    );
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, MODE);
}

#[tokio::test]
async fn what_could_not_be_written_is_counted_and_said_once_it_can() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing/log");
    let (journal, mut writer) = file(&path);
    let now = Zoned::now();
    for number in 1..=3 {
        journal.write(number, &now, texts(&["lost", "lost"]));
        drain(&mut writer).await;
        assert!(writer.failing);
    }
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    journal.write(4, &now, texts(&["here"]));
    drain(&mut writer).await;
    assert_eq!(lines(&path), ["0] 6 lines before this one are lost", "4] here"]);
    assert!(!writer.failing);
}

/// A full disk: nothing waits for it, and it is no reason to fail.
#[tokio::test]
async fn a_full_disk_costs_lines_only() {
    let full = Path::new("/dev/full");
    let (journal, mut writer) = file(full);
    journal.write(1, &Zoned::now(), texts(&["lost"]));
    drain(&mut writer).await;
    assert!(writer.failing);
    assert_eq!(writer.queue.lost.load(Ordering::Relaxed), 1);
}

/// Opening a pipe that nobody reads would wait for ever.
#[tokio::test]
async fn a_pipe_without_a_reader_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    let mode = rustix::fs::Mode::from_bits_truncate(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let (journal, mut writer) = file(&path);
    journal.write(1, &Zoned::now(), texts(&["lost"]));
    drain(&mut writer).await;
    assert!(writer.failing);
}

#[test]
fn what_waits_is_bounded() {
    let (journal, writer) = file(Path::new("/nowhere"));
    let (line, now) = (vec![b'x'; 1 << 20], Zoned::now());
    for _ in 0..20 {
        journal.write(1, &now, [line.clone()]);
    }
    assert!(writer.queue.waiting.load(Ordering::Relaxed) <= WAITING_LEN_MAX + (1 << 20) + 64);
    assert_eq!(writer.lines.len() as u64 + writer.queue.lost.load(Ordering::Relaxed), 20);
    assert!(writer.queue.lost.load(Ordering::Relaxed) > 10);
}

#[tokio::test]
async fn the_system_log_gets_a_message_a_line_and_is_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dev-log");
    let system = (Facility::from_name("local3").unwrap(), "mirror".to_owned());
    let (journal, mut writer) = Journal::with(Output::System(SystemLog::at(&path)), Some(system));
    let now: Zoned = "2009-11-03T12:00:00[UTC]".parse().unwrap();
    journal.write(5, &now, texts(&["nobody listens"]));
    drain(&mut writer).await;
    assert!(writer.failing);
    for _ in 0..2 {
        let log = UnixDatagram::bind(&path).unwrap();
        journal.write(7, &now, texts(&["send a\nb"]));
        drain(&mut writer).await;
        let receive = || {
            let mut buffer = [0; 4096];
            let len = log.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..len].to_vec()).unwrap()
        };
        let mut message = receive();
        if message.contains("lost") {
            assert!(message.ends_with("mirror[0]: 1 lines before this one are lost"), "{message}");
            message = receive();
        }
        assert_eq!(message, "<158>Nov  3 12:00:00 mirror[7]: send a\\#012b");
        drop(log);
        std::fs::remove_file(&path).unwrap();
    }
}
