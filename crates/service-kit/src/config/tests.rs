//! The messages are the interface: they are compared whole.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Proxy {
    listen: SocketAddr,
    capacity: ByteSize,
    mirrors: Vec<String>,
    allow_clients: Networks,
    ports: Vec<u16>,
    verify: Verify,
    offline: bool,
    retries: u16,
    advertise: Option<String>,
    #[serde(deserialize_with = "none_if_empty")]
    token_file: Option<PathBuf>,
    timeout: HumanDuration,
    aliases: Vec<Alias>,
    source: Source,
    tls: Option<Tls>,
    extra: HashMap<String, u8>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verify {
    Signed,
    Consistent,
    None,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Source {
    Dir(PathBuf),
    Rsync(String),
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Alias {
    dir: PathBuf,
    prefix: String,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    cert: PathBuf,
    key: PathBuf,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".parse().unwrap(),
            capacity: ByteSize(1 << 30),
            mirrors: vec!["https://a".to_owned()],
            allow_clients: Networks::default(),
            ports: Vec::new(),
            verify: Verify::Signed,
            offline: false,
            retries: 3,
            advertise: None,
            token_file: None,
            timeout: HumanDuration(Duration::from_secs(30)),
            aliases: Vec::new(),
            source: Source::Dir("/tree".into()),
            tls: None,
            extra: HashMap::new(),
        }
    }
}

fn settings(file: &str, env: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let file = (!file.is_empty()).then(|| (PathBuf::from("r.toml"), file.to_owned()));
    Settings::from_layers(file, env.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())))
}

fn proxy(file: &str, env: &[(&str, &str)]) -> Result<Proxy, ConfigError> {
    settings(file, env)?.section("proxy")
}

/// File, variables, message.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);

const WRONG: &[Case] = &[
    // No TOML at all.
    ("[proxy\n", &[], "r.toml:1:7: unclosed table, expected `]`"),
    ("[proxy]\nretries = 1\nretries = 2\n", &[], "r.toml:3:1: duplicate key"),
    ("[proxy]\nretries = 99999999999999999999\n", &[], "r.toml:2:11: the number doesn't fit into 64 bits"),
    // Sections.
    ("[proxi]\n", &[], "r.toml:1: proxi: unknown section; did you mean `proxy`?"),
    (
        "\n[logging]\n",
        &[],
        "r.toml:2: logging: unknown section; expected one of sync, proxy, maintenance, grpc, telemetry, process",
    ),
    ("proxy = 1\n", &[], "r.toml:1: proxy: expected a section, `[proxy]`, found a value"),
    (
        "",
        &[("ROOKERY__PROXI__LISTEN", "x")],
        "environment variable ROOKERY__PROXI__LISTEN: proxi: unknown section; did you mean `proxy`?",
    ),
    (
        "",
        &[("ROOKERY__PROXY", "x")],
        "environment variable ROOKERY__PROXY: proxy: expected the name of one key, as in ROOKERY__PROXY__KEY",
    ),
    // Keys.
    (
        "[proxy]\n\nlisten_on = 1\n",
        &[],
        "r.toml:3: proxy.listen_on: unknown key; expected one of \
        listen, capacity, mirrors, allow_clients, ports, verify, offline, retries, advertise, token_file, \
        timeout, aliases, source, tls, extra",
    ),
    ("[proxy]\ncapcity = \"1 GiB\"\n", &[], "r.toml:2: proxy.capcity: unknown key; did you mean `capacity`?"),
    (
        "[[proxy.aliases]]\ndir = \"/a\"\nprefix = \"a\"\n[[proxy.aliases]]\ndir = \"/b\"\nprefixx = \"b\"\n",
        &[],
        "r.toml:6: proxy.aliases[1].prefixx: unknown key; did you mean `prefix`?",
    ),
    (
        "[[proxy.aliases]]\ndir = \"/a\"\n",
        &[],
        "r.toml:1: proxy.aliases[0].prefix: expected a value, found none: \
        the key is required here",
    ),
    (
        "[proxy.tls]\ncert = \"/c\"\nkeys = \"/k\"\n",
        &[],
        "r.toml:3: proxy.tls.keys: unknown key; did you mean `key`?",
    ),
    (
        "",
        &[("ROOKERY__PROXY__CAPCITY", "1 GiB")],
        "environment variable ROOKERY__PROXY__CAPCITY: proxy.capcity: unknown key; did you mean `capacity`?",
    ),
    // Values.
    (
        "[proxy]\nlisten = \"8080\"\n",
        &[],
        "r.toml:2: proxy.listen: expected an address and port such as \"127.0.0.1:8080\", found the text \"8080\"",
    ),
    (
        "[proxy]\nlisten = 8080\n",
        &[],
        "r.toml:2: proxy.listen: expected an address and port such as \"127.0.0.1:8080\", found 8080",
    ),
    (
        "[proxy]\ncapacity = \"lots\"\n",
        &[],
        "r.toml:2: proxy.capacity: expected a size such as \"50 GiB\" or a number of bytes, found the text \"lots\"",
    ),
    (
        "[proxy]\ncapacity = -1\n",
        &[],
        "r.toml:2: proxy.capacity: expected a size such as \"50 GiB\" or a number of bytes, found -1",
    ),
    (
        "[proxy]\ntimeout = 30\n",
        &[],
        "r.toml:2: proxy.timeout: expected a time such as \"30m\", \"12h\" or \"10s\", found 30",
    ),
    (
        "[proxy]\nretries = \"3\"\n",
        &[],
        "r.toml:2: proxy.retries: expected a whole number from 0 to 65535, found the text \"3\"",
    ),
    (
        "[proxy]\nretries = 70000\n",
        &[],
        "r.toml:2: proxy.retries: expected a whole number from 0 to 65535, found 70000",
    ),
    (
        "[proxy]\noffline = \"no\"\n",
        &[],
        "r.toml:2: proxy.offline: expected true or false, found the text \"no\"",
    ),
    (
        "[proxy]\nverify = \"signd\"\n",
        &[],
        "r.toml:2: proxy.verify: expected one of `signed`, `consistent`, `none` (did you mean `signed`?), \
         found the text \"signd\"",
    ),
    (
        "[proxy]\nmirrors = \"https://a\"\n",
        &[],
        "r.toml:2: proxy.mirrors: expected a list, found the text \"https://a\"",
    ),
    (
        "[proxy]\nmirrors = [\n\"https://a\",\n7]\n",
        &[],
        "r.toml:4: proxy.mirrors[1]: expected a text, found 7",
    ),
    (
        "[proxy]\nallow_clients = [\"10.0.0.0/33\"]\n",
        &[],
        "r.toml:2: proxy.allow_clients[0]: expected a network such as \"10.13.18.0/24\" or an address, \
         found the text \"10.0.0.0/33\"",
    ),
    ("[proxy]\ntls = true\n", &[], "r.toml:2: proxy.tls: expected a table, found true"),
    (
        "[proxy]\nsource = { git = \"x\" }\n",
        &[],
        "r.toml:2: proxy.source.git: expected one of `dir`, `rsync`, found `git`",
    ),
    ("[proxy]\nsource = { dir = 5 }\n", &[], "r.toml:2: proxy.source.dir: expected a text, found 5"),
    (
        "[proxy.extra]\na = 300\n",
        &[],
        "r.toml:2: proxy.extra.a: expected a whole number from 0 to 255, found 300",
    ),
    (
        "",
        &[("ROOKERY__PROXY__RETRIES", "many")],
        "environment variable ROOKERY__PROXY__RETRIES: proxy.retries: expected a whole number from 0 to 65535, \
         found \"many\"",
    ),
    (
        "",
        &[("ROOKERY__PROXY__PORTS", "1,x")],
        "environment variable ROOKERY__PROXY__PORTS: proxy.ports[1]: expected a whole number from 0 to 65535, \
         found \"x\"",
    ),
    (
        "",
        &[("ROOKERY__PROXY__ALIASES__0__DIR", "/a")],
        "environment variable ROOKERY__PROXY__ALIASES__0__DIR: proxy.aliases: expected a plain list (only a file \
         can set tables in arrays), found a table",
    ),
    (
        "",
        &[("ROOKERY__PROXY__TLS", "/a")],
        "environment variable ROOKERY__PROXY__TLS: proxy.tls: expected a table, found \"/a\"",
    ),
    // What is missing is judged once all layers are there.
    (
        "[proxy.tls]\ncert = \"/c\"\n",
        &[],
        "r.toml:2: proxy.tls.key: expected a value, found none: the key is required here",
    ),
    (
        "",
        &[("ROOKERY__PROXY__TLS__KEY", "/k")],
        "environment variable ROOKERY__PROXY__TLS__KEY: proxy.tls.cert: expected a value, found none: the key is \
         required here",
    ),
    // A higher layer doesn't hide a lower one's mistake.
    (
        "[proxy]\nretries = \"x\"\n",
        &[("ROOKERY__PROXY__RETRIES", "5")],
        "r.toml:2: proxy.retries: expected a whole number from 0 to 65535, found the text \"x\"",
    ),
];

#[test]
fn each_mistake_is_named_with_its_place_key_and_expectation() {
    for (file, env, expected) in WRONG {
        let message = proxy(file, env).expect_err(expected).to_string();
        assert_eq!(message, *expected, "\n{file}{env:?}");
    }
}

#[test]
fn the_environment_overrides_the_file_and_the_file_the_defaults() {
    let file = "[proxy]\nretries = 5\ncapacity = \"2 GiB\"\nmirrors = [\"https://b\"]\n";
    let got = proxy(file, &[("ROOKERY__PROXY__RETRIES", "7"), ("HOME", "/root"), ("ROOKERY_CONFIG", "x")]);
    let expected = Proxy {
        retries: 7,
        capacity: ByteSize(2 << 30),
        mirrors: vec!["https://b".to_owned()],
        ..Proxy::default()
    };
    assert_eq!(got.unwrap(), expected);
    assert_eq!(proxy("", &[]).unwrap(), Proxy::default());
    assert_eq!(proxy("[sync]\nanything = 1\n", &[]).unwrap(), Proxy::default());
}

#[test]
fn a_variable_is_read_as_what_its_key_wants() {
    let got = proxy(
        "[proxy]\nadvertise = \"me\"\n[[proxy.aliases]]\ndir = \"/a\"\nprefix = \"a\"\n",
        &[
            ("ROOKERY__PROXY__LISTEN", "[::1]:80"),
            ("ROOKERY__PROXY__CAPACITY", "512KiB"),
            ("ROOKERY__PROXY__MIRRORS", "https://x , https://y"),
            ("ROOKERY__PROXY__ALLOW_CLIENTS", "10.0.0.0/8,::1"),
            ("ROOKERY__PROXY__PORTS", "1,2"),
            ("ROOKERY__PROXY__VERIFY", "none"),
            ("ROOKERY__PROXY__OFFLINE", "true"),
            ("ROOKERY__PROXY__ADVERTISE", ""),
            ("ROOKERY__PROXY__TOKEN_FILE", ""),
            ("ROOKERY__PROXY__TIMEOUT", "1h30m"),
            ("ROOKERY__PROXY__SOURCE__RSYNC", "rsync://x/y"),
            ("ROOKERY__PROXY__TLS__CERT", "/c"),
            ("ROOKERY__PROXY__TLS__KEY", "/k"),
            ("ROOKERY__PROXY__EXTRA__A", "9"),
        ],
    );
    let expected = Proxy {
        listen: "[::1]:80".parse().unwrap(),
        capacity: ByteSize(512 << 10),
        mirrors: vec!["https://x".to_owned(), "https://y".to_owned()],
        allow_clients: Networks::parse(["10.0.0.0/8", "::1/128"]).unwrap(),
        ports: vec![1, 2],
        verify: Verify::None,
        offline: true,
        retries: 3,
        advertise: None,
        token_file: None,
        timeout: HumanDuration(Duration::from_mins(90)),
        aliases: vec![Alias { dir: "/a".into(), prefix: "a".to_owned() }],
        source: Source::Rsync("rsync://x/y".to_owned()),
        tls: Some(Tls { cert: "/c".into(), key: "/k".into() }),
        extra: HashMap::from([("a".to_owned(), 9)]),
    };
    assert_eq!(got.unwrap(), expected);
    assert_eq!(proxy("", &[("ROOKERY__PROXY__MIRRORS", "")]).unwrap().mirrors, Vec::<String>::new());
}

#[test]
fn layers_complete_each_other() {
    let got = proxy("[proxy.tls]\ncert = \"/c\"\n", &[("ROOKERY__PROXY__TLS__KEY", "/k")]).unwrap();
    assert_eq!(got.tls, Some(Tls { cert: "/c".into(), key: "/k".into() }));
}

#[test]
fn defaults_and_overrides_of_the_command_line_enclose_the_others() {
    let settings = settings("[proxy]\nretries = 5\n", &[("ROOKERY__PROXY__OFFLINE", "true")])
        .unwrap()
        .with_defaults("without a file", "[proxy]\nretries = 1\nverify = \"none\"\noffline = false\n")
        .unwrap()
        .with_overrides("command line", "[proxy]\nlisten = \"127.0.0.1:1\"\n")
        .unwrap();
    let got: Proxy = settings.section("proxy").unwrap();
    assert_eq!((got.retries, got.verify, got.offline, got.listen.port()), (5, Verify::None, true, 1));
    let described: Vec<String> = settings.describe().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(
        described,
        [
            "proxy.listen = \"127.0.0.1:1\"  # command line:2",
            "proxy.offline = \"true\"  # environment variable ROOKERY__PROXY__OFFLINE",
            "proxy.retries = 5  # r.toml:2",
            "proxy.verify = \"none\"  # without a file:3",
        ]
    );
}

#[test]
fn a_mistake_that_only_the_service_sees_gets_its_place_too() {
    let settings = settings("[proxy]\n\nadvertise = \"x\"\n", &[("ROOKERY__PROXY__PORTS", "1")]).unwrap();
    let located = |key| settings.locate(&ConfigError::wrong(key, "expected better")).to_string();
    assert_eq!(located("proxy.advertise"), "r.toml:3: proxy.advertise: expected better");
    assert_eq!(
        located("proxy.ports"),
        "environment variable ROOKERY__PROXY__PORTS: proxy.ports: expected better"
    );
    assert_eq!(located("proxy.listen"), "r.toml: proxy.listen: expected better");
    assert_eq!(located("sync.listen"), "built-in defaults: sync.listen: expected better");
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let error = Settings::read(Some(Path::new("/nonexistent/r.toml"))).unwrap_err().to_string();
    assert_eq!(
        error,
        "/nonexistent/r.toml: can't read the configuration: No such file or directory (os error 2)"
    );
}

#[test]
fn sizes_read_as_people_write_them_and_back() {
    for (text, octets) in [
        ("50 GiB", 50 << 30),
        ("1MiB", 1 << 20),
        ("512KiB", 512 << 10),
        ("1.5 GiB", 3 << 29),
        ("2 gb", 2_000_000_000),
        ("4096", 4096),
        ("0", 0),
        ("7 B", 7),
        ("16777215 TiB", 16_777_215 << 40),
    ] {
        assert_eq!(text.parse(), Ok(ByteSize(octets)), "{text}");
        assert_eq!(ByteSize(octets).to_string().parse(), Ok(ByteSize(octets)), "{text}");
    }
    assert_eq!(ByteSize(50 << 30).to_string(), "50 GiB");
    for wrong in ["", "GiB", "-1", "1 XiB", "1..5 GiB", "1.5.5", "16777216 TiB", "1 GiB 2"] {
        assert!(wrong.parse::<ByteSize>().is_err(), "{wrong}");
    }
}

#[test]
fn times_read_as_people_write_them_and_back() {
    for (text, ms) in [
        ("30m", 1_800_000),
        ("12h", 43_200_000),
        ("10s", 10_000),
        ("7d", 604_800_000),
        ("500ms", 500),
        ("1h30m", 5_400_000),
        ("1.5 s", 1500),
        ("0", 0),
    ] {
        let time = HumanDuration(Duration::from_millis(ms));
        assert_eq!(text.parse(), Ok(time), "{text}");
        assert_eq!(time.to_string().parse(), Ok(time), "{text}");
    }
    for wrong in ["", "30", "m", "-1s", "1y", "1h30", "9999999999999999999d"] {
        assert!(wrong.parse::<HumanDuration>().is_err(), "{wrong}");
    }
}

#[test]
fn a_mapped_ipv4_address_is_in_its_ipv4_network() {
    let networks = Networks::parse(["10.0.0.0/8", "::1"]).unwrap();
    for inside in ["10.1.2.3", "::ffff:10.1.2.3", "::1"] {
        assert!(networks.contains(inside.parse().unwrap()), "{inside}");
    }
    for outside in ["11.0.0.1", "::ffff:11.0.0.1", "::2"] {
        assert!(!networks.contains(outside.parse().unwrap()), "{outside}");
    }
}
