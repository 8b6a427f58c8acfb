//! Assignments as a shell would read them: quotes, `$NAME`, `${NAME}`, comments, continued lines.
//!
//! What a shell would run (`$(…)`, backquotes, `if`, commands) is refused: nothing here is ever run.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

use super::Fault;

/// A value that grows beyond this was written to grow.
const VALUE_OCTETS_MAX: usize = 64 << 10;

/// Every variable with its last value.
pub(super) fn assignments(text: &str) -> Result<BTreeMap<String, String>, Fault> {
    let mut reader = Reader { chars: text.chars().peekable(), line: 1 };
    let mut variables = BTreeMap::new();
    while reader.skip_blank() {
        let mut name = reader.word();
        if name == "export" && reader.chars.peek().is_some_and(|&c| c == ' ' || c == '\t') {
            reader.skip_spaces();
            name = reader.word();
        }
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || reader.next() != Some('=') {
            return Err(reader.fault("an assignment NAME=VALUE or a comment is expected"));
        }
        let value = reader.value(&variables)?;
        variables.insert(name, value);
    }
    Ok(variables)
}

struct Reader<'a> {
    chars: Peekable<Chars<'a>>,
    line: usize,
}

impl Reader<'_> {
    fn fault(&self, what: &str) -> Fault {
        Fault::Line { line: self.line, what: what.to_owned() }
    }

    fn next(&mut self) -> Option<char> {
        let next = self.chars.next();
        if next == Some('\n') {
            self.line += 1;
        }
        next
    }

    fn skip_spaces(&mut self) {
        while self.chars.peek().is_some_and(|&c| c == ' ' || c == '\t') {
            self.next();
        }
    }

    /// To the next assignment; false at the end.
    fn skip_blank(&mut self) -> bool {
        while let Some(&c) = self.chars.peek() {
            if c == '#' {
                while self.chars.peek().is_some_and(|&c| c != '\n') {
                    self.next();
                }
            } else if c.is_ascii_whitespace() || c == ';' {
                self.next();
            } else {
                return true;
            }
        }
        false
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(&c) = self.chars.peek()
            && (c.is_ascii_alphanumeric() || c == '_')
        {
            word.push(c);
            self.next();
        }
        word
    }

    /// To the first blank or line end that is not quoted.
    fn value(&mut self, variables: &BTreeMap<String, String>) -> Result<String, Fault> {
        let mut value = String::new();
        let mut quote = None;
        loop {
            if value.len() > VALUE_OCTETS_MAX {
                return Err(self.fault("the value is too long"));
            }
            let Some(&c) = self.chars.peek() else { break };
            if quote.is_none() && (c.is_ascii_whitespace() || c == ';') {
                break;
            }
            self.next();
            match (c, quote) {
                (c, Some(open)) if c == open => quote = None,
                (c, Some('\'')) => value.push(c),
                ('"' | '\'', None) => quote = Some(c),
                ('\\', _) => self.escape(quote.is_some(), &mut value),
                ('$', _) => value.push_str(&self.expansion(variables)?),
                ('`', _) => return Err(self.fault("commands are not run here")),
                ('&' | '|' | '<' | '>' | '(' | ')', None) => {
                    return Err(self.fault("only assignments are read here"));
                }
                (c, _) => value.push(c),
            }
        }
        if quote.is_some() {
            return Err(self.fault("the closing quote is missing"));
        }
        self.end_of_line()?;
        Ok(value)
    }

    /// What follows an assignment on its line must be nothing, or a shell would run it.
    fn end_of_line(&mut self) -> Result<(), Fault> {
        self.skip_spaces();
        match self.chars.peek() {
            None | Some('\n' | '\r' | '#' | ';') => Ok(()),
            Some(_) => Err(self.fault("only assignments are read here; is a quote missing?")),
        }
    }

    fn escape(&mut self, in_quotes: bool, value: &mut String) {
        match self.next() {
            // A continued line.
            Some('\n') => {}
            Some(c) if !in_quotes || matches!(c, '"' | '\\' | '$' | '`') => value.push(c),
            Some(c) => value.extend(['\\', c]),
            None => value.push('\\'),
        }
    }

    fn expansion(&mut self, variables: &BTreeMap<String, String>) -> Result<String, Fault> {
        let name = match self.chars.peek() {
            Some('{') => {
                self.next();
                let name = self.word();
                if self.next() != Some('}') {
                    return Err(self.fault("only ${NAME} is understood"));
                }
                name
            }
            Some('(') => return Err(self.fault("commands are not run here")),
            _ => self.word(),
        };
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        // One that is not set is empty, as for a shell.
        Ok(variables.get(&name).cloned().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(text: &str) -> String {
        assignments(text).unwrap().remove("A").unwrap()
    }

    #[test]
    fn values_are_what_a_shell_makes_of_them() {
        for (text, expected) in [
            ("A=plain", "plain"),
            ("A=\"two words\" # comment", "two words"),
            ("A='$HOME \"x\"'", "$HOME \"x\""),
            ("B=1\nA=\"$B ${B}2 $C\"", "1 12 "),
            ("A=\"a\\\n b\"", "a b"),
            ("A=\"\\$x \\\" \\n\"", "$x \" \\n"),
            ("export A=a\\ b", "a b"),
            ("A=\"x\"y'z'", "xyz"),
            ("A=", ""),
            ("A=1; A=\"$A 2\"", "1 2"),
            ("A=\"one\ntwo\"", "one\ntwo"),
            ("A=a#b", "a#b"),
            ("A=\"$\"", "$"),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_a_shell_would_run_is_refused_with_its_line() {
        for text in [
            "\nA=$(id)",
            "\nA=`id`",
            "\nA=\"${B:-x}\"",
            "\nif true; then A=1; fi",
            "\necho hello",
            "\nA=\"open",
            "\nA=1 command",
            "\nA=1 && B=2",
            "\n1A=2",
        ] {
            let fault = assignments(text).unwrap_err();
            assert!(matches!(fault, Fault::Line { line: 2, .. }), "{text:?}: {fault}");
        }
    }

    #[test]
    fn a_value_can_not_grow_without_end() {
        let doubling: String =
            std::iter::once("A=aaaaaaaaaaaaaaaa\n").chain((0..40).map(|_| "A=\"$A$A\"\n")).collect();
        assert!(assignments(&doubling).unwrap_err().to_string().contains("too long"));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[A-C=\"'$\\\\{}#; \n`a-c]{0,60}") {
            drop(assignments(&text));
        }

        #[test]
        fn single_quotes_keep_everything(text in "[^']{0,60}") {
            prop_assert_eq!(value(&format!("A='{text}'")), text);
        }
    }
}
