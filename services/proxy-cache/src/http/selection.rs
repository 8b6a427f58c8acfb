//! What of a file goes out to one client.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use http_wire::multipart::Segment;

use super::buffers;

/// A part of a file, all of it, or several parts with text around them.
#[derive(Debug)]
pub(crate) struct Selection {
    /// What is left of the part that is being sent.
    pub(super) left: Range<u64>,
    /// What comes behind it.
    then: VecDeque<Segment>,
}

impl Selection {
    /// One part, as it is.
    pub(super) fn part(part: Range<u64>) -> Self {
        Self { left: part, then: VecDeque::new() }
    }

    /// Several.
    pub(super) fn parts(segments: Vec<Segment>) -> Self {
        Self { left: 0..0, then: segments.into() }
    }

    /// Octets of the file.
    pub(super) fn file_bytes(&self) -> u64 {
        let behind = self.then.iter().map(|segment| match segment {
            Segment::Text(_) => 0,
            Segment::Bytes(part) => part.end - part.start,
        });
        behind.sum::<u64>() + self.left.end - self.left.start
    }

    /// Text that goes out now. If there is none, [`Self::left`] is what to read, and empty at the end of all.
    pub(super) fn take_text(&mut self) -> Option<Bytes> {
        while self.left.is_empty() {
            match self.then.pop_front()? {
                Segment::Bytes(part) => self.left = part,
                Segment::Text(text) => return Some(text.into()),
            }
        }
        None
    }

    /// What to read next, if it can be read up to `end`.
    pub(super) fn piece(&self, end: u64) -> Range<u64> {
        self.left.start..end.min(self.left.start + buffers::piece_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_parts_come_in_their_order() {
        let segments = || {
            let text = |text: &str| Segment::Text(text.to_owned());
            vec![text("a"), Segment::Bytes(3..5), text("b"), Segment::Bytes(0..2), text("c")]
        };
        let mut selection = Selection::parts(segments());
        assert_eq!(selection.file_bytes(), 4);
        let mut told = Vec::new();
        loop {
            while let Some(text) = selection.take_text() {
                told.push(String::from_utf8(text.to_vec()).unwrap());
            }
            if selection.left.is_empty() {
                break;
            }
            told.push(selection.left.start.to_string());
            selection.left.start += 1;
        }
        assert_eq!(told, ["a", "3", "4", "b", "0", "1", "c"]);
        let mut one = Selection::part(7..9);
        assert_eq!((one.file_bytes(), one.take_text(), one.left), (2, None, 7..9));
    }
}
