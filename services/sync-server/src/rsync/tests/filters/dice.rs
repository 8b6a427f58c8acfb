//! Trees and rules out of a seed: from few names, so that they meet.

use std::fs;
use std::path::Path;

/// A generator of numbers that is the same everywhere (xorshift64*).
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

/// A client's rules, and what it asks for.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) options: Vec<String>,
    pub(super) path: &'static str,
}

const DIRECTORIES: [&str; 6] = ["a", "b", "foo", "bar.d", "deep", "x y"];
const FILES: [&str; 9] = ["a", "ab", "foo", "foo.o", "bar.o", "x[1]", "star*", "b-1.0", ".hidden"];
const COMPONENTS: [&str; 26] = [
    "a",
    "b",
    "ab",
    "foo",
    "foo.o",
    "bar.d",
    "deep",
    "x y",
    "*",
    "*",
    "?",
    "a*",
    "*.o",
    "f?o",
    "[ab]",
    "[!a]*",
    "[a-c]",
    "[[:alpha:]]*",
    "**",
    "a**",
    "**o",
    "b-[0-9].*",
    "x\\[1\\]",
    "star\\*",
    ".*",
    "x[[]1]",
];

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33
    }

    /// Below `end`.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next()).unwrap_or(0) % end
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Another one, which leaves this one where it would be.
    pub(super) fn fork(&mut self) -> Self {
        Self::new(self.next())
    }

    fn pattern(&mut self) -> String {
        let mut pattern = String::new();
        if self.one_in(4) {
            pattern.push('/');
        }
        let count = 1 + [0, 0, 0, 1, 1, 2][self.below(6)];
        for number in 0..count {
            if number > 0 {
                pattern.push('/');
            }
            pattern.push_str(self.pick(&COMPONENTS));
        }
        match self.below(12) {
            0 | 1 => pattern.push('/'),
            2 => pattern.push_str("/***"),
            3 => pattern.push_str("/**"),
            4 => pattern.push_str("/*"),
            _ => {}
        }
        pattern
    }

    fn rule(&mut self) -> String {
        let pattern = self.pattern();
        let kind = self.pick(&[
            "-", "-", "-", "-", "+", "+", "+", "-/", "+/", "-!", "+!", "-s", "+s", "-r", "+r", "-p", "-sr",
            "H", "S", "P", "R", "H!", "S/", "-s/!",
        ]);
        match self.below(24) {
            0 => "!".to_owned(),
            1 => self
                .pick(&[": .rules", ":n .rules", ":e .rules", ":s .rules", ": /.rules", ":/ .rules"])
                .to_owned(),
            2 => self
                .pick(&[
                    ":- .plain",
                    ":+ .plain",
                    ":w- .plain",
                    ":ne .rules",
                    "dir-merge .rules",
                    ":-n .plain",
                ])
                .to_owned(),
            3 => self.pick(&[":C", "-C"]).to_owned(),
            _ => format!("{kind} {pattern}"),
        }
    }

    pub(super) fn rules(&mut self) -> Rules {
        let count = 1 + self.below(6);
        let option = |dice: &mut Self| match dice.below(8) {
            0 => format!("--include={}", dice.pattern()),
            1 => format!("--exclude={}", dice.pattern()),
            _ => format!("--filter={}", dice.rule()),
        };
        let options = (0..count).map(|_| option(self)).collect();
        Rules { options, path: self.pick(&["", "", "", "foo/", "foo", "deep/foo/", "a"]) }
    }

    /// The lines of a module.
    pub(super) fn section(&mut self) -> String {
        let quoted = |pattern: String| pattern.replace(' ', "?");
        match self.below(4) {
            0 => {
                let rules: Vec<String> = (0..=self.below(4))
                    .map(|_| format!("{} {}", self.pick(&["-", "-", "+"]), quoted(self.pattern())))
                    .collect();
                format!("filter = {}\n", rules.join(" "))
            }
            number => {
                let mut lists = [Vec::new(), Vec::new()];
                for _ in 0..=self.below(4) {
                    let pattern = quoted(self.pattern());
                    lists[usize::from(number > 1 && self.one_in(2))].push(pattern);
                }
                let [exclude, include] = lists.map(|list| list.join(" "));
                format!("exclude = {exclude}\ninclude = {include}\n")
            }
        }
    }
}

pub(super) fn write_tree(mut dice: Dice, root: &Path) {
    // What the transfer roots of the rules need.
    for path in ["foo/a/b", "deep/foo/bar.d", "a/foo"] {
        fs::create_dir_all(root.join(path)).unwrap();
        fs::write(root.join(path).join("foo.o"), "x").unwrap();
    }
    fill(&mut dice, root, 0);
}

fn fill(dice: &mut Dice, directory: &Path, depth: usize) {
    let taken = |path: &Path| fs::symlink_metadata(path).is_ok();
    for _ in 0..2 + dice.below(4) {
        let path = directory.join(dice.pick(&FILES));
        if !taken(&path)
            && (depth > 0 || !["a", "foo"].contains(&path.file_name().unwrap().to_str().unwrap()))
        {
            fs::write(path, "x").unwrap();
        }
    }
    if dice.one_in(3) {
        let rules: Vec<String> = (0..=dice.below(3))
            .map(|_| {
                format!("{} {}\n", dice.pick(&["-", "-", "+", "-/", "-!", "H", "+s", "-r"]), dice.pattern())
            })
            .collect();
        fs::write(directory.join(".rules"), rules.concat()).unwrap();
    }
    if dice.one_in(3) {
        let patterns: Vec<String> = (0..=dice.below(3)).map(|_| dice.pattern() + "\n").collect();
        fs::write(directory.join(".plain"), patterns.concat()).unwrap();
    }
    if depth < 3 {
        for _ in 0..=dice.below(4 - depth) {
            let path = directory.join(dice.pick(&DIRECTORIES));
            if !taken(&path) || path.is_dir() {
                fs::create_dir_all(&path).unwrap();
                fill(dice, &path, depth + 1);
            }
        }
    }
}
