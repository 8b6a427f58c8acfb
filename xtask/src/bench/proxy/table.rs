//! Medians with their spread, as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::load::Figures;
use super::peers::Kind;

/// The rounds of each load and server.
pub(super) type Rounds = BTreeMap<(usize, Kind), Vec<Figures>>;

/// Median, least and most.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

fn spread(rounds: &[Figures], of: impl Fn(&Figures) -> f64) -> Spread {
    let mut values: Vec<f64> = rounds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    Spread { median: at(values.len() / 2), least: at(0), most: at(values.len().saturating_sub(1)) }
}

/// One table for each load.
pub(super) fn render(loads: &[String], rounds: &Rounds) -> String {
    let mut text = String::new();
    for (load, title) in loads.iter().enumerate() {
        let nginx = rounds.get(&(load, Kind::Nginx)).map(Vec::as_slice).unwrap_or_default();
        let peer_rate = spread(nginx, |one| one.octets_rate).median;
        let peer_cpu = spread(nginx, |one| one.cpu_per_gb).median;
        let peer_p99 = spread(nginx, |one| one.p99_ms).median;
        // Writing to a string can't fail.
        let _ = writeln!(
            text,
            "\n{title}\n\n| server | answers/s | MB/s (least–most) | to nginx | CPU s/GB | to nginx | p99 ms | to nginx | anonymous MiB |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
        );
        for kind in Kind::ALL {
            let Some(of) = rounds.get(&(load, kind)) else { continue };
            let (octets, cpu) = (spread(of, |one| one.octets_rate), spread(of, |one| one.cpu_per_gb));
            let p99 = spread(of, |one| one.p99_ms).median;
            let (latency, to_peer) = if p99 > 0.0 {
                (format!("{p99:.2}"), format!("{:.2}", p99 / peer_p99))
            } else {
                (String::new(), String::new())
            };
            let _ = writeln!(
                text,
                "| {} | {:.0} | {:.0} ({:.0}–{:.0}) | {:.2} | {:.3} | {:.2} | {latency} | {to_peer} | {:.0} |",
                kind.name(),
                spread(of, |one| one.rate).median,
                octets.median / 1e6,
                octets.least / 1e6,
                octets.most / 1e6,
                octets.median / peer_rate,
                cpu.median,
                cpu.median / peer_cpu,
                spread(of, |one| one.anonymous_mebibytes).median,
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
            ((0, Kind::Nginx), vec![figures(40.0)]),
        ]);
        let table = render(&["1 KiB".to_owned()], &rounds);
        assert!(
            table.contains("| rookery | 20 | 20 (10–30) | 0.50 | 1.000 | 1.00 | 2.00 | 1.00 | 0 |"),
            "{table}"
        );
    }
}
