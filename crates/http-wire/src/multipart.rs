//! Several ranges in one answer: `multipart/byteranges` (RFC 9110, section 14.6).

use std::ops::Range;

/// What goes out next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// What stands around the parts.
    Text(String),
    /// A part of the file.
    Bytes(Range<u64>),
}

/// An answer with several parts of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Multipart {
    content_type: String,
    segments: Vec<Segment>,
}

impl Multipart {
    /// `parts` of a file of `size` octets, in this order. `content_type` is the file's, and `boundary` a text of letters
    /// and digits that is in none of the parts.
    #[must_use]
    pub fn new(parts: &[Range<u64>], size: u64, content_type: Option<&str>, boundary: &str) -> Self {
        let of_file = content_type.map(|text| format!("Content-Type: {text}\r\n")).unwrap_or_default();
        let mut segments = Vec::with_capacity(2 * parts.len() + 1);
        let mut before = "";
        for part in parts {
            let range = format_content_range(part, size);
            let head = format!("{before}--{boundary}\r\n{of_file}Content-Range: {range}\r\n\r\n");
            segments.extend([Segment::Text(head), Segment::Bytes(part.clone())]);
            before = "\r\n";
        }
        segments.push(Segment::Text(format!("{before}--{boundary}--\r\n")));
        Self { content_type: format!("multipart/byteranges; boundary={boundary}"), segments }
    }

    /// Of the answer.
    #[must_use]
    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// Octets of the answer's body.
    #[must_use]
    pub fn length(&self) -> u64 {
        let lengths = self.segments.iter().map(|segment| match segment {
            Segment::Text(text) => text.len() as u64,
            Segment::Bytes(part) => part.end - part.start,
        });
        lengths.fold(0, u64::saturating_add)
    }

    /// The body in its order.
    #[must_use]
    pub fn into_segments(self) -> Vec<Segment> {
        self.segments
    }
}

/// The value of `Content-Range` for `part`, which is not empty, of `size` octets.
#[must_use]
pub fn format_content_range(part: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", part.start, part.end.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The octets that the example of RFC 9110, section 14.6, has, but for its pictures of parts.
    #[test]
    fn the_layout_is_that_of_the_rfc() {
        let file = b"0123456789";
        let answer = Multipart::new(&[1..3, 7..10], 10, Some("application/pdf"), "B0");
        assert_eq!(answer.content_type(), "multipart/byteranges; boundary=B0");
        let length = answer.length();
        let mut body = Vec::new();
        for segment in answer.into_segments() {
            match segment {
                Segment::Text(text) => body.extend_from_slice(text.as_bytes()),
                Segment::Bytes(part) => {
                    let part = usize::try_from(part.start).unwrap()..usize::try_from(part.end).unwrap();
                    body.extend_from_slice(&file[part]);
                }
            }
        }
        let expected = "--B0\r\nContent-Type: application/pdf\r\nContent-Range: bytes 1-2/10\r\n\r\n12\
                        \r\n--B0\r\nContent-Type: application/pdf\r\nContent-Range: bytes 7-9/10\r\n\r\n789\
                        \r\n--B0--\r\n";
        assert_eq!(String::from_utf8(body).unwrap(), expected);
        assert_eq!(length, expected.len() as u64);
    }

    #[test]
    fn a_file_without_a_type_has_parts_without() {
        let answer = Multipart::new(&[0..1, 2..3], 10, None, "B");
        let Segment::Text(head) = &answer.into_segments()[0] else { panic!("no head") };
        assert_eq!(head, "--B\r\nContent-Range: bytes 0-0/10\r\n\r\n");
    }
}
