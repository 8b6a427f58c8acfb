//! Answers of `rookery generations --refused`. The field names are the command line's contract.

use std::fmt;

use rookery_proto::v1;
use serde::Serialize;

use crate::text;

#[derive(Debug, Serialize)]
pub(super) struct RefusalsView {
    refusals: Vec<RefusalView>,
}

#[derive(Debug, Serialize)]
struct RefusalView {
    module: String,
    verify: String,
    refused_ms: i64,
    last_ms: i64,
    times: u64,
    files: u64,
    faults_count: u64,
    faults: Vec<FaultView>,
    directory: String,
}

#[derive(Debug, Serialize)]
struct FaultView {
    path: String,
    line: u64,
    kind: String,
    why: String,
    expected: String,
    found: String,
    copy: String,
}

impl From<v1::ListRefusalsResponse> for RefusalsView {
    fn from(answer: v1::ListRefusalsResponse) -> Self {
        Self { refusals: answer.refusals.into_iter().map(RefusalView::from).collect() }
    }
}

impl From<v1::TreeRefusal> for RefusalView {
    fn from(refusal: v1::TreeRefusal) -> Self {
        Self {
            module: refusal.module,
            verify: refusal.verify,
            refused_ms: refusal.refused_ms,
            last_ms: refusal.last_ms,
            times: refusal.times,
            files: refusal.files,
            faults_count: refusal.faults_count,
            faults: refusal.faults.into_iter().map(FaultView::from).collect(),
            directory: refusal.directory,
        }
    }
}

impl From<v1::TreeFault> for FaultView {
    fn from(fault: v1::TreeFault) -> Self {
        let v1::TreeFault { path, line, kind, why, expected, found, copy } = fault;
        Self { path, line, kind, why, expected, found, copy }
    }
}

impl fmt::Display for RefusalsView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.refusals.is_empty() {
            return writeln!(f, "Nothing was refused since the last tree that was good.");
        }
        self.refusals.iter().try_for_each(|refusal| write!(f, "{refusal}"))
    }
}

impl fmt::Display for RefusalView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { module, verify, times, directory, .. } = self;
        write!(f, "{module}: refused {}", text::moment(self.refused_ms))?;
        if *times > 1 {
            write!(
                f,
                " and {} later, the last one {}",
                text::plural(times - 1, "time"),
                text::moment(self.last_ms)
            )?;
        }
        let (faults, files) = (text::plural(self.faults_count, "fault"), text::plural(self.files, "file"));
        writeln!(f, "; {faults} in {files}, verify = {verify}; kept in {directory}")?;
        self.faults.iter().try_for_each(|fault| write!(f, "{fault}"))?;
        match self.faults_count.saturating_sub(self.faults.len() as u64) {
            0 => Ok(()),
            more => writeln!(f, "  and {} more", text::count(more)),
        }
    }
}

impl fmt::Display for FaultView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, kind, why, expected, found, copy } = self;
        let line = if *line == 0 { String::new() } else { format!(":{line}") };
        writeln!(f, "  {kind:<13} {path}{line}: {why}")?;
        for (what, value) in [("expected", expected), ("found", found), ("kept as", copy)] {
            if !value.is_empty() {
                writeln!(f, "                {what} {value}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_each_fault_and_says_how_many_are_left_out() {
        let fault = v1::TreeFault {
            path: "a/b".to_owned(),
            line: 3,
            kind: "size".to_owned(),
            why: "6 octets, but its Manifest says 5".to_owned(),
            expected: "5".to_owned(),
            found: "6".to_owned(),
            copy: "files/1".to_owned(),
        };
        let refusal = v1::TreeRefusal {
            module: "m".to_owned(),
            verify: "signed".to_owned(),
            times: 3,
            files: 9,
            faults_count: 2,
            faults: vec![fault],
            directory: "/var/x".to_owned(),
            ..Default::default()
        };
        let view = RefusalsView::from(v1::ListRefusalsResponse { refusals: vec![refusal] });
        let text = view.to_string();
        for part in [
            "2 times later",
            "2 faults in 9 files",
            "size          a/b:3: 6 octets",
            "found 6",
            "and 1 more",
            "/var/x",
        ] {
            assert!(text.contains(part), "no {part} in {text}");
        }
        let json = serde_json::to_value(&view).unwrap();
        assert_eq!(json["refusals"][0]["faults"][0]["copy"], "files/1");
        assert!(RefusalsView { refusals: Vec::new() }.to_string().contains("Nothing was refused"));
    }
}
