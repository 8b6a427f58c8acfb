//! Medians with their spread, as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::super::median::{ratio, spread};
use super::load::Figures;
use super::peers::Kind;

/// The rounds of each load and server.
pub(super) type Rounds = BTreeMap<(usize, Kind), Vec<Figures>>;

/// One table for each load.
pub(super) fn render(loads: &[String], rounds: &Rounds) -> String {
    let mut text = String::new();
    for (load, title) in loads.iter().enumerate() {
        let of = |kind: Kind, what: fn(&Figures) -> f64| -> Vec<f64> {
            rounds.get(&(load, kind)).into_iter().flatten().map(what).collect()
        };
        // Writing to a string can't fail.
        let _ = writeln!(
            text,
            "\n{title}\n\n| server | answers/s | MB/s (least–most) | to nginx | CPU s/GB | to nginx | p99 ms | to nginx | anonymous MiB |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
        );
        for kind in Kind::ALL.into_iter().filter(|kind| rounds.contains_key(&(load, *kind))) {
            let median = |what| spread(of(kind, what)).median;
            let to_nginx = |what| ratio(&of(kind, what), &of(Kind::Nginx, what));
            let octets = spread(of(kind, |one| one.octets_rate));
            let p99 = median(|one| one.p99_ms);
            let (latency, to_peer) = if p99 > 0.0 {
                (format!("{p99:.2}"), format!("{:.2}", to_nginx(|one| one.p99_ms)))
            } else {
                (String::new(), String::new())
            };
            let _ = writeln!(
                text,
                "| {} | {:.0} | {:.0} ({:.0}–{:.0}) | {:.2} | {:.3} | {:.2} | {latency} | {to_peer} | {:.0} |",
                kind.name(),
                median(|one| one.rate),
                octets.median / 1e6,
                octets.least / 1e6,
                octets.most / 1e6,
                to_nginx(|one| one.octets_rate),
                median(|one| one.cpu_per_gb),
                to_nginx(|one| one.cpu_per_gb),
                median(|one| one.anonymous_mebibytes),
            );
        }
    }
    text
}

/// `document` with `section` between the two comments that name it; at its end if they are not there yet.
pub(in crate::bench) fn put(document: &str, name: &str, section: &str) -> String {
    let (begin, end) = (format!("<!-- {name} -->"), format!("<!-- end of {name} -->"));
    let section = format!("{begin}\n{}\n{end}", section.trim());
    if let Some((before, rest)) = document.split_once(&begin)
        && let Some((_, after)) = rest.split_once(&end)
    {
        return format!("{before}{section}{after}");
    }
    format!("{}\n\n{section}\n", document.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_where_it_is() {
        let once = put("# Figures\n", "bench proxy", "first");
        assert_eq!(once, "# Figures\n\n<!-- bench proxy -->\nfirst\n<!-- end of bench proxy -->\n");
        let more = once + "after\n";
        let again = put(&more, "bench proxy", "second\n");
        assert_eq!(again, more.replace("first", "second"));
    }

    #[test]
    fn medians_and_ratios_to_nginx() {
        let figures = |rate: f64| Figures {
            rate,
            octets_rate: rate * 1e6,
            cpu_per_gb: 1.0,
            p99_ms: 2.0,
            ..Figures::default()
        };
        let rounds = Rounds::from([
            ((0, Kind::Rookery), [30.0, 10.0, 20.0].map(figures).to_vec()),
            ((0, Kind::Nginx), [60.0, 20.0, 80.0].map(figures).to_vec()),
        ]);
        let table = render(&["1 KiB".to_owned()], &rounds);
        assert!(
            table.contains("| rookery | 20 | 20 (10–30) | 0.50 | 1.000 | 1.00 | 2.00 | 1.00 | 0 |"),
            "{table}"
        );
    }
}
