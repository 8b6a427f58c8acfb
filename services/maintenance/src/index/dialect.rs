//! What SQLite says differently from other databases. Everything else in this module is meant to be
//! understood by PostgreSQL as well; a second dialect is a second version of this file, of `connection`,
//! the migrations and of `file`.

/// A condition: the text in `column` contains the bound value, letter by letter.
pub(super) fn contains(column: &str) -> (String, &'static str) {
    (format!("instr({column}, "), ") > 0")
}

/// The octets of `column` in hexadecimal digits, of either case.
pub(super) fn hex(column: &str) -> String {
    format!("hex({column})")
}

/// Whether the file is sound, as far as can be told without reading every row twice.
pub(super) const QUICK_CHECK: &str = "PRAGMA quick_check(1)";

/// How a transaction begins that will write: the right to write is waited for here, and not lost to another
/// program between the first question and the first change.
pub(super) const BEGIN_WRITE: &str = "BEGIN IMMEDIATE";

/// SQLite's own numbers for what can happen to the file.
pub(super) mod code {
    /// A statement that the schema doesn't take.
    pub(in crate::index) const ERROR: i32 = 1;
    /// The file's mode forbids it.
    pub(in crate::index) const PERM: i32 = 3;
    /// Another program has it locked.
    pub(in crate::index) const BUSY: i32 = 5;
    /// It can be read only.
    pub(in crate::index) const READONLY: i32 = 8;
    /// The disk fails.
    pub(in crate::index) const IOERR: i32 = 10;
    /// Pages that contradict each other.
    pub(in crate::index) const CORRUPT: i32 = 11;
    /// No room is left.
    pub(in crate::index) const FULL: i32 = 13;
    /// The file, or one beside it, can't be opened.
    pub(in crate::index) const CANTOPEN: i32 = 14;
    /// Not a database at all.
    pub(in crate::index) const NOTADB: i32 = 26;
}
