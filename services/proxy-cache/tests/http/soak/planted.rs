//! The model finds what is wrong: right answers of a replica, each with one fault planted, and the name of the fault.

use std::collections::BTreeMap;

use farm_sim::upstream::Upstream;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::answers::{Answers, Fault, Pace, Wrong, describe};
use super::model::{Asked, Body, Selected, World};
use super::stored;

/// Two are of one size, so that the length does not tell them apart.
const FILES: [(&str, u64); 4] = [("a-1.tar", 1500), ("b-1.tar", 1500), ("c-1.tar", 1), ("d-1.tar", 40_000)];
const CASES: u64 = 400;

/// A request, and the right answer to it.
struct Case {
    asked: Asked,
    /// With the empty line behind it.
    head: String,
    body: Vec<u8>,
}

impl Case {
    /// As a replica answers.
    async fn of(world: &World, asked: Asked) -> Self {
        let mut socket = TcpStream::connect(world.address).await.unwrap();
        socket.write_all(&asked.octets).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        let body = answer.split_off(end);
        Self { asked, head: String::from_utf8(answer).unwrap(), body }
    }

    fn octets(&self) -> Vec<u8> {
        [self.head.as_bytes(), &self.body].concat()
    }

    fn with_head(&self, head: &str) -> Option<Vec<u8>> {
        (head != self.head).then(|| [head.as_bytes(), &self.body].concat())
    }

    fn with_body(&self, body: &[u8]) -> Option<Vec<u8>> {
        (body != self.body).then(|| [self.head.as_bytes(), body].concat())
    }

    fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(listed, _)| listed.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// With another value of a field that is there; empty: without it.
    fn replaced(&self, name: &str, value: &str) -> Option<Vec<u8>> {
        let old = format!("{name}: {}\r\n", self.field(name)?);
        let new = if value.is_empty() { String::new() } else { format!("{name}: {value}\r\n") };
        assert!(self.head.contains(&old), "{}", self.head);
        self.with_head(&self.head.replacen(&old, &new, 1))
    }

    fn added(&self, field: &str) -> Option<Vec<u8>> {
        self.with_head(&self.head.replacen("\r\n\r\n", &format!("\r\n{field}\r\n\r\n"), 1))
    }

    /// With one number of a field changed: the one at `index`.
    fn shifted(&self, name: &str, index: usize, by: i64) -> Option<Vec<u8>> {
        let mut value = self.field(name)?.to_owned();
        let is_digit = |c: char| c.is_ascii_digit();
        let numbers: Vec<(usize, String)> = value
            .match_indices(is_digit)
            .filter(|(at, _)| !value[..*at].ends_with(is_digit))
            .map(|(at, _)| (at, value[at..].chars().take_while(char::is_ascii_digit).collect()))
            .collect();
        let (at, number) = numbers.get(index)?;
        let other = number.parse::<i64>().unwrap() + by;
        value.replace_range(*at..at + number.len(), &other.to_string());
        self.replaced(name, &value)
    }

    fn has_file(&self) -> bool {
        matches!(self.asked.expected.body, Body::Part(..)) && !self.body.is_empty()
    }

    fn is_about(&self, other: &Self) -> bool {
        self.selected().is_some() && self.selected() == other.selected()
    }

    /// Without a body, and the model can't know of which length it would be.
    fn is_of_any_length(&self) -> bool {
        self.body.is_empty() && self.asked.expected.length.is_none()
    }

    /// What does not change from second to second.
    fn lasting(&self) -> (String, &[u8]) {
        let lines = self.head.lines().filter(|line| !line.starts_with("date:") && !line.starts_with("age:"));
        (lines.collect(), &self.body)
    }

    fn is_asked_with(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.asked.octets).contains(text)
    }

    fn selected(&self) -> Option<&Selected> {
        self.asked.expected.selected.as_ref()
    }

    /// With one octet of the body another one.
    fn spoilt(&self, at: impl Fn(usize) -> usize) -> Option<Vec<u8>> {
        let mut body = self.body.clone();
        *body.get_mut(at(self.body.len()))? ^= 1;
        self.with_body(&body)
    }
}

type Plant = fn(&Case, &Case) -> Option<Vec<u8>>;

/// What is planted, by what, and as what it may be found. The second case is another one of the same world.
const PLANTS: &[(&str, Plant, &[Fault])] = &[
    ("the first octet", |case, _| case.has_file().then(|| case.spoilt(|_| 0))?, &[Fault::Octets]),
    ("an octet", |case, _| case.has_file().then(|| case.spoilt(|length| length / 2))?, &[Fault::Octets]),
    (
        "the last octet",
        |case, _| case.has_file().then(|| case.spoilt(|length| length - 1))?,
        &[Fault::Octets],
    ),
    (
        "an octet of parts",
        |case, _| is_parts(case).then(|| case.spoilt(|length| length / 2))?,
        &[Fault::Parts],
    ),
    (
        "the last boundary",
        |case, _| is_parts(case).then(|| case.spoilt(|length| length - 5))?,
        &[Fault::Parts],
    ),
    (
        "a part's range",
        |case, _| {
            is_parts(case).then_some(())?;
            let at = case.body.windows(6).position(|window| window == b"bytes ")? + 6;
            let mut body = case.body.clone();
            body[at] += 1;
            case.with_body(&body)
        },
        &[Fault::Parts],
    ),
    ("the first of a range", |case, _| case.shifted("content-range", 0, 1), &[Fault::ContentRange]),
    ("the last of a range", |case, _| case.shifted("content-range", 1, -1), &[Fault::ContentRange]),
    ("the size behind a range", |case, _| case.shifted("content-range", 2, 1), &[Fault::ContentRange]),
    (
        "the size in a 416",
        |case, _| case.head.contains(" 416 ").then(|| case.shifted("content-range", 0, -1))?,
        &[Fault::ContentRange],
    ),
    ("no range", |case, _| case.replaced("content-range", ""), &[Fault::ContentRange]),
    (
        "a range of a whole file",
        |case, _| case.head.contains(" 200 ").then(|| case.added("content-range: bytes 0-0/1500"))?,
        &[Fault::ContentRange],
    ),
    ("another file's tag", |case, other| case.replaced("etag", other.field("etag")?), &[Fault::ETag]),
    ("a weak tag", |case, _| case.replaced("etag", &format!("W/{}", case.field("etag")?)), &[Fault::ETag]),
    ("no tag", |case, _| case.selected()?.is_told.then(|| case.replaced("etag", ""))?, &[Fault::ETag]),
    (
        "a tag of no file",
        |case, other| {
            case.selected().is_none().then(|| case.added(&format!("etag: {}", other.field("etag")?)))?
        },
        &[Fault::ETag],
    ),
    ("another year", |case, _| case.shifted("last-modified", 1, -1), &[Fault::LastModified]),
    (
        "no time",
        |case, _| case.selected()?.is_told.then(|| case.replaced("last-modified", ""))?,
        &[Fault::LastModified],
    ),
    ("no date", |case, _| case.replaced("date", ""), &[Fault::Date]),
    ("no length", |case, _| case.has_file().then(|| case.replaced("content-length", ""))?, &[Fault::Framing]),
    (
        "a longer length",
        |case, _| (!case.is_of_any_length()).then(|| case.shifted("content-length", 0, 1))?,
        &[Fault::Framing, Fault::Short],
    ),
    (
        "a shorter length",
        |case, _| (!case.is_of_any_length()).then(|| case.shifted("content-length", 0, -1))?,
        &[Fault::Framing, Fault::Parts, Fault::Unasked],
    ),
    (
        "two lengths",
        |case, _| case.added(&format!("content-length: {}", case.field("content-length")?)),
        &[Fault::Head],
    ),
    ("chunks", |case, _| case.added("transfer-encoding: chunked"), &[Fault::Framing]),
    ("a body that is short", |case, _| case.with_body(case.body.split_last()?.1), &[Fault::Short]),
    ("a body that is long", |case, _| case.with_body(&[&case.body, &b"x"[..]].concat()), &[Fault::Unasked]),
    (
        "the part behind the one that was asked for",
        |case, _| case.has_file().then(|| case.with_body(&[&case.body[1..], b"x"].concat()))?,
        &[Fault::Octets],
    ),
    (
        "another file",
        |case, other| {
            let is_alike = other.has_file() && other.body.len() == case.body.len();
            (case.has_file() && is_alike && case.body[..1] != other.body[..1])
                .then(|| case.with_body(&other.body))?
        },
        &[Fault::Octets],
    ),
    (
        "all, although the client has this version",
        |case, other| {
            let is_it = case.asked.expected.status == 206 && case.is_asked_with("If-Range");
            (is_it && other.asked.expected.status == 200 && other.has_file() && other.is_about(case))
                .then(|| other.octets())
        },
        &[Fault::Status],
    ),
    (
        "a part, although the client has another version",
        |case, other| {
            let is_it =
                case.has_file() && case.asked.expected.status == 200 && case.is_asked_with("If-Range");
            (is_it && other.asked.expected.status == 206 && other.is_about(case)).then(|| other.octets())
        },
        &[Fault::Status],
    ),
    (
        "a body where there is none",
        |case, _| (case.asked.expected.status == 304).then(|| case.with_body(b"x"))?,
        &[Fault::Unasked],
    ),
    (
        "the length of a body where there is none",
        |case, _| (case.asked.expected.status == 304).then(|| case.added("content-length: 1500"))?,
        &[Fault::Framing],
    ),
    (
        "a body with a 304",
        |case, _| {
            (case.asked.expected.status == 304).then_some(())?;
            Some([&case.added("content-length: 1")?, &b"x"[..]].concat())
        },
        &[Fault::Framing],
    ),
    (
        "it closes",
        |case, _| (!case.asked.expected.closes).then(|| case.added("connection: close"))?,
        &[Fault::Connection],
    ),
    (
        "it seems to stay, or to close",
        |case, _| {
            let expected = &case.asked.expected;
            // HTTP/1.0 closes anyhow.
            (!expected.is_old || !expected.closes).then(|| case.replaced("connection", ""))?
        },
        &[Fault::Connection],
    ),
    (
        "another version",
        |case, _| case.with_head(&case.head.replacen("HTTP/1.1", "HTTP/1.0", 1)),
        &[Fault::Version],
    ),
    ("a cookie", |case, _| case.added("set-cookie: a=b"), &[Fault::Foreign]),
    ("an encoding", |case, _| case.added("content-encoding: gzip"), &[Fault::Foreign]),
    ("a line feed alone", |case, _| case.with_head(&case.head.replacen("\r\n", "\n", 1)), &[Fault::Head]),
    ("no head", |case, _| case.with_head(""), &[Fault::Short, Fault::Unasked]),
    ("twice", |case, _| Some([case.octets(), case.octets()].concat()), &[Fault::Unasked]),
    ("a failure", |case, _| case.with_head(&format!("HTTP/1.1 502 {}", &case.head[13..])), &[Fault::Status]),
];

fn is_parts(case: &Case) -> bool {
    matches!(case.asked.expected.body, Body::Parts(..))
}

/// What the model says of octets as the answers to these requests.
async fn judge(octets: &[u8], asked: &[Asked]) -> Option<Fault> {
    match Answers::new(octets, Pace::default()).all(asked, true, |_, _| ()).await {
        Ok(()) => None,
        Err(Wrong::Answer(fault, _)) => Some(fault),
        Err(Wrong::Left | Wrong::Hangs) => panic!("nobody goes or waits here"),
    }
}

async fn cases(world: &World) -> Vec<Case> {
    let mut random = StdRng::seed_from_u64(1);
    let mut cases = Vec::new();
    for _ in 0..CASES {
        cases.push(Case::of(world, world.ask(&mut random)).await);
    }
    cases
}

#[tokio::test]
async fn the_model_finds_every_planted_fault() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await.unwrap();
    let (_replica, world) = stored(dir.path(), &upstream, &FILES).await;
    let cases = cases(&world).await;
    for case in &cases {
        assert_eq!(
            judge(&case.octets(), std::slice::from_ref(&case.asked)).await,
            None,
            "{:?} {}",
            case.asked,
            case.head
        );
    }
    plant_all(&cases).await;
    swap(&cases).await;
    cut(&cases).await;
}

async fn plant_all(cases: &[Case]) {
    let mut planted: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, case) in cases.iter().enumerate() {
        for (name, plant, named) in PLANTS {
            // The next one that it can be planted with.
            let mut others = cases.iter().cycle().skip(at + 1).take(100);
            let Some(octets) = others.find_map(|other| plant(case, other)) else { continue };
            let fault = judge(&octets, std::slice::from_ref(&case.asked)).await;
            assert!(
                fault.is_some_and(|fault| named.contains(&fault)),
                "{name}: {fault:?} for {:?}, {}",
                case.asked,
                describe(&octets)
            );
            *planted.entry(name).or_default() += 1;
        }
    }
    let never: Vec<_> =
        PLANTS.iter().filter(|(name, ..)| !planted.contains_key(name)).map(|plant| plant.0).collect();
    assert!(never.is_empty(), "never planted: {never:?}");
}

/// The answer to the request behind it comes first.
async fn swap(cases: &[Case]) {
    let mut swapped = 0;
    for [one, other] in cases.windows(2).flat_map(<&[Case; 2]>::try_from) {
        let is_same = one.asked.expected == other.asked.expected || one.lasting() == other.lasting();
        if one.asked.expected.closes || is_same {
            continue;
        }
        let asked = [one.asked.clone(), other.asked.clone()];
        assert_eq!(judge(&[one.octets(), other.octets()].concat(), &asked).await, None);
        let fault = judge(&[other.octets(), one.octets()].concat(), &asked).await;
        assert!(fault.is_some(), "{asked:?}");
        swapped += 1;
    }
    assert!(swapped > 100, "{swapped}");
}

/// The connection ends at each octet.
async fn cut(cases: &[Case]) {
    for case in cases.iter().step_by(10).filter(|case| case.body.len() < 2000) {
        let octets = case.octets();
        for at in 0..octets.len() {
            let fault = judge(&octets[..at], std::slice::from_ref(&case.asked)).await;
            assert_eq!(fault, Some(Fault::Short), "{at} of {:?}", case.asked);
        }
    }
}
