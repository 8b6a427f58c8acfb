//! Wildcards over octets, in bounded time: `*`, `**`, `?`, `[…]` and `\` (6.3).

use super::MatchBudget;
use crate::WireError;

/// A compiled pattern, which must match all of a text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Glob {
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Token {
    Literal(u8),
    /// One octet that is no slash.
    Any,
    /// One octet of a set, which never holds the slash.
    Class(Box<[u64; 4]>),
    /// Any run without a slash.
    Star,
    /// Any run.
    Span,
    /// An unfinished class matches nothing.
    Never,
}

/// Whether a path component needs to be matched rather than looked up.
#[must_use]
pub fn is_wild(text: &[u8]) -> bool {
    text.iter().any(|o| b"*?[".contains(o))
}

/// How many wildcards a pattern has: each is a place where matching may have to start over.
pub(super) fn wildcards(pattern: &[u8]) -> usize {
    pattern.iter().filter(|o| b"*?[".contains(o)).count()
}

impl Glob {
    /// Compiles a pattern.
    #[must_use]
    pub fn new(pattern: &[u8]) -> Self {
        let mut tokens = Vec::with_capacity(pattern.len());
        let mut at = 0;
        while let Some(&octet) = pattern.get(at) {
            at += 1;
            tokens.push(match octet {
                b'*' => {
                    let more = pattern[at..].iter().take_while(|&&o| o == b'*').count();
                    at += more;
                    if more == 0 { Token::Star } else { Token::Span }
                }
                b'?' => Token::Any,
                b'[' => match class(&pattern[at..]) {
                    Some((set, len)) => {
                        at += len;
                        Token::Class(Box::new(set))
                    }
                    None => Token::Never,
                },
                b'\\' => {
                    let escaped = pattern.get(at).copied().unwrap_or(octet);
                    at += 1;
                    Token::Literal(escaped)
                }
                octet => Token::Literal(octet),
            });
        }
        Self { tokens }
    }

    /// Whether all of `text` matches. A later star takes over from an earlier one of its kind, so that there
    /// are two places to go back to at most: the last `*`, and the last `**` when that one meets a slash.
    ///
    /// # Errors
    /// [`WireError::Limit`] when the budget is used up.
    pub fn matches(&self, text: &[u8], budget: &mut MatchBudget) -> Result<bool, WireError> {
        let (mut token, mut at) = (0, 0);
        // Where to go on after the star, and the first octet that it has not taken yet.
        let mut star: Option<(usize, usize)> = None;
        let mut span: Option<(usize, usize)> = None;
        let mut steps = 0_u64;
        let matched = loop {
            steps += 1;
            match self.tokens.get(token) {
                Some(Token::Star) => {
                    token += 1;
                    star = Some((token, at));
                    continue;
                }
                Some(Token::Span) => {
                    token += 1;
                    (star, span) = (None, Some((token, at)));
                    continue;
                }
                Some(one) if at < text.len() && one.takes(text[at]) => {
                    (token, at) = (token + 1, at + 1);
                    continue;
                }
                None if at == text.len() => break true,
                _ => {}
            }
            if let Some((after, taken)) = star.filter(|&(_, taken)| taken < text.len() && text[taken] != b'/')
            {
                (token, at) = (after, taken + 1);
                star = Some((after, taken + 1));
            } else if let Some((after, taken)) = span.filter(|&(_, taken)| taken < text.len()) {
                (token, at) = (after, taken + 1);
                (star, span) = (None, Some((after, taken + 1)));
            } else {
                break false;
            }
        };
        budget.spend(steps)?;
        Ok(matched)
    }
}

impl Token {
    fn takes(&self, octet: u8) -> bool {
        match self {
            Self::Literal(literal) => *literal == octet,
            Self::Any => octet != b'/',
            Self::Class(set) => has(set, octet),
            Self::Star | Self::Span | Self::Never => false,
        }
    }
}

fn has(set: &[u64; 4], octet: u8) -> bool {
    set[usize::from(octet >> 6)] >> (octet & 0x3F) & 1 == 1
}

fn insert(set: &mut [u64; 4], octet: u8) {
    set[usize::from(octet >> 6)] |= 1 << (octet & 0x3F);
}

/// Reads a class after its `[`: the set and how many octets it took, its `]` included.
fn class(rest: &[u8]) -> Option<([u64; 4], usize)> {
    let mut set = [0; 4];
    let negated = matches!(rest.first(), Some(b'!' | b'^'));
    let mut at = usize::from(negated);
    let start = at;
    loop {
        let octet = *rest.get(at)?;
        if octet == b']' && at > start {
            break;
        }
        if let Some((name, len)) = posix_name(&rest[at..]) {
            (0..=255).filter(|&o| posix_has(name, o)).for_each(|o| insert(&mut set, o));
            at += len;
            continue;
        }
        let (first, len) = class_octet(&rest[at..])?;
        at += len;
        let mut last = first;
        if rest.get(at) == Some(&b'-') && rest.get(at + 1).is_some_and(|&o| o != b']') {
            let (end, len) = class_octet(&rest[at + 1..])?;
            at += 1 + len;
            last = end;
        }
        (first..=last).for_each(|o| insert(&mut set, o));
    }
    if negated {
        set = set.map(|word| !word);
    }
    set[usize::from(b'/' >> 6)] &= !(1 << (b'/' & 0x3F));
    Some((set, at + 1))
}

fn class_octet(rest: &[u8]) -> Option<(u8, usize)> {
    match rest {
        [b'\\', escaped, ..] => Some((*escaped, 2)),
        [octet, ..] => Some((*octet, 1)),
        [] => None,
    }
}

/// `[:name:]`: the name, and how many octets it takes.
fn posix_name(rest: &[u8]) -> Option<(&[u8], usize)> {
    let inner = rest.strip_prefix(b"[:")?;
    let end = inner.windows(2).position(|pair| pair == b":]")?;
    inner[..end].iter().all(u8::is_ascii_lowercase).then_some((&inner[..end], end + 4))
}

fn posix_has(name: &[u8], octet: u8) -> bool {
    match name {
        b"alnum" => octet.is_ascii_alphanumeric(),
        b"alpha" => octet.is_ascii_alphabetic(),
        b"blank" => octet == b' ' || octet == b'\t',
        b"cntrl" => octet.is_ascii_control(),
        b"digit" => octet.is_ascii_digit(),
        b"graph" => octet.is_ascii_graphic(),
        b"lower" => octet.is_ascii_lowercase(),
        b"print" => octet.is_ascii_graphic() || octet == b' ',
        b"punct" => octet.is_ascii_punctuation(),
        b"space" => octet.is_ascii_whitespace() || octet == 0x0B,
        b"upper" => octet.is_ascii_uppercase(),
        b"xdigit" => octet.is_ascii_hexdigit(),
        _ => false,
    }
}
