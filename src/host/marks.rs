//! One stream of a shell, taken in piece by piece: what stands between a frame's marks, and no more of it than is allowed. PURE.
//!
//! The search goes on where it stopped, so each byte is looked at once, however small the pieces are.

use std::fmt;

use memchr::memmem::find;

/// What may come before the start mark: what login scripts print. A long greeting has some 10 kB.
pub const MOST_BEFORE: usize = 256 << 10;
/// The most on standard output. The longest answer is that of a status where 10,000 connections are held to a member's port for peers and
/// the server keeps 5,000 snapshots: 1 MB.
pub const MOST_OUTPUT: usize = 2 << 20;
/// The most on standard error: some hundred lines, from scripts that fail.
pub const MOST_ERRORS: usize = 1 << 20;
/// What is kept of what came before the start mark: where there is none, sudo's words are in it.
const KEPT: usize = 16 << 10;
/// An exit code and the end of its line.
const LONGEST_WORD: usize = 16;

/// One stream of one frame.
#[derive(Debug)]
pub struct Marked {
    start: Vec<u8>,
    end: Vec<u8>,
    most: usize,
    stage: Stage,
    /// Before the start mark the last of what came; after that everything since it.
    bytes: Vec<u8>,
    /// How far `bytes` has been searched for the next mark.
    searched: usize,
    /// How much came before the start mark, as long as there is none.
    before: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Before,
    Between,
    /// The end mark begins here, and its line is not whole yet.
    Ending(usize),
    /// As before, and the line is this long.
    Ended(usize, usize),
}

/// Where there was too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// Before the start mark.
    Before,
    /// Between the marks: more than this.
    Between(usize),
    /// On the line of the end mark.
    Ending,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Before => write!(f, "more than {} KiB before its output began", MOST_BEFORE >> 10),
            Self::Between(most) => write!(f, "more than {} KiB of output", most >> 10),
            Self::Ending => f.write_str("output whose last line does not end"),
        }
    }
}

impl Marked {
    /// `start` is the whole line of the start mark, `end` what the line of the end mark begins with, and the line break before it.
    pub fn new(start: Vec<u8>, end: Vec<u8>, most: usize) -> Self {
        Self {
            start,
            end,
            most,
            stage: Stage::Before,
            bytes: Vec::new(),
            searched: 0,
            before: 0,
        }
    }

    /// Takes in what came next. What follows the line of the end mark is dropped.
    ///
    /// # Errors
    /// [`Excess`]; nothing more may be taken in then.
    pub fn take(&mut self, piece: &[u8]) -> Result<(), Excess> {
        if matches!(self.stage, Stage::Ended(..)) {
            return Ok(());
        }
        self.make_room(piece.len());
        self.bytes.extend_from_slice(piece);
        if self.stage == Stage::Before {
            self.look_for_start(piece.len())?;
        }
        if self.stage == Stage::Between {
            self.look_for_end()?;
        }
        if let Stage::Ending(at) = self.stage {
            self.look_for_line(at)?;
        }
        Ok(())
    }

    /// Grows by half and no further than needed: a vector that doubles would take twice of what is allowed.
    fn make_room(&mut self, more: usize) {
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            let room = needed
                .max(self.bytes.len() * 3 / 2)
                .min(self.most + self.end.len() + more);
            self.bytes.reserve_exact(room.max(needed) - self.bytes.len());
        }
    }

    fn look_for_start(&mut self, came: usize) -> Result<(), Excess> {
        self.before += came;
        let at = find(&self.bytes[self.searched..], &self.start).map(|at| self.searched + at);
        // Where the mark begins, or could at the earliest.
        let from = at.unwrap_or((self.bytes.len() + 1).saturating_sub(self.start.len()));
        if self.before - (self.bytes.len() - from) > MOST_BEFORE {
            return Err(Excess::Before);
        }
        if let Some(at) = at {
            self.bytes.drain(..at + self.start.len());
            self.searched = 0;
            self.stage = Stage::Between;
            return Ok(());
        }
        if self.bytes.len() > 2 * KEPT {
            self.bytes.drain(..self.bytes.len() - KEPT);
        }
        self.searched = (self.bytes.len() + 1).saturating_sub(self.start.len());
        Ok(())
    }

    fn look_for_end(&mut self) -> Result<(), Excess> {
        let at = find(&self.bytes[self.searched..], &self.end).map(|at| self.searched + at);
        let text = at.unwrap_or((self.bytes.len() + 1).saturating_sub(self.end.len()));
        if text > self.most {
            return Err(Excess::Between(self.most));
        }
        self.searched = text;
        if at.is_some() {
            self.stage = Stage::Ending(text);
        }
        Ok(())
    }

    fn look_for_line(&mut self, at: usize) -> Result<(), Excess> {
        let line = &self.bytes[at + self.end.len()..];
        match line.iter().take(LONGEST_WORD + 1).position(|&byte| byte == b'\n') {
            Some(length) => {
                self.bytes.truncate(at + self.end.len() + length);
                self.stage = Stage::Ended(at, length);
                Ok(())
            }
            None if line.len() > LONGEST_WORD => Err(Excess::Ending),
            None => Ok(()),
        }
    }

    /// Whether the start mark has been seen: the shell runs.
    pub fn has_begun(&self) -> bool {
        self.stage != Stage::Before
    }

    /// What there is of it so far: before the start mark the last of what came, after that everything since.
    pub fn so_far(&self) -> &[u8] {
        &self.bytes
    }

    /// What stands between the marks, and what follows the end mark on its line. `None` while the end mark is not there yet.
    pub fn text(&self) -> Option<(&[u8], &[u8])> {
        let Stage::Ended(at, length) = self.stage else {
            return None;
        };
        let word = at + self.end.len();
        Some((&self.bytes[..at], &self.bytes[word..word + length]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MOST: usize = 300;

    fn marked() -> Marked {
        Marked::new(b"ab<\n".to_vec(), b"\nab>".to_vec(), MOST)
    }

    type Outcome = Result<(bool, Option<(Vec<u8>, Vec<u8>)>), Excess>;

    fn outcome(pieces: &[&[u8]]) -> Outcome {
        let mut marked = marked();
        for piece in pieces {
            marked.take(piece)?;
        }
        let text = marked.text().map(|(text, word)| (text.to_vec(), word.to_vec()));
        Ok((marked.has_begun(), text))
    }

    /// What a stream comes to, read as a whole and without any of the above.
    fn expected(stream: &[u8]) -> Outcome {
        let at = |bytes: &[u8], mark: &[u8]| bytes.windows(mark.len()).position(|window| window == mark);
        let Some(start) = at(stream, b"ab<\n") else {
            // The mark may have begun already.
            let too_much = stream.len() > MOST_BEFORE + 3;
            return if too_much {
                Err(Excess::Before)
            } else {
                Ok((false, None))
            };
        };
        if start > MOST_BEFORE {
            return Err(Excess::Before);
        }
        let rest = &stream[start + 4..];
        let Some(end) = at(rest, b"\nab>") else {
            let too_much = rest.len() > MOST + 3;
            return if too_much {
                Err(Excess::Between(MOST))
            } else {
                Ok((true, None))
            };
        };
        if end > MOST {
            return Err(Excess::Between(MOST));
        }
        let line = &rest[end + 4..];
        match line.iter().position(|byte| *byte == b'\n') {
            Some(length) if length <= LONGEST_WORD => Ok((true, Some((rest[..end].to_vec(), line[..length].to_vec())))),
            None if line.len() <= LONGEST_WORD => Ok((true, None)),
            _ => Err(Excess::Ending),
        }
    }

    /// Streams of pieces of marks, in which marks are found often, and nearly so more often.
    fn streams() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            Just(b"ab<\n".to_vec()),
            Just(b"\nab>".to_vec()),
            Just(b"\na".to_vec()),
            Just(b"ab".to_vec()),
            Just(b"\n".to_vec()),
            Just(b"0\n".to_vec()),
            prop::collection::vec(any::<u8>(), 0..40),
        ];
        prop::collection::vec(part, 0..30).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn pieces_come_to_what_the_whole_comes_to(stream in streams(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
            let whole = outcome(&[&stream]);
            prop_assert_eq!(&whole, &expected(&stream));
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.sort_unstable();
            let mut from = 0;
            let mut pieces = Vec::new();
            for cut in cuts {
                pieces.push(&stream[from..cut]);
                from = cut;
            }
            pieces.push(&stream[from..]);
            prop_assert_eq!(outcome(&pieces), whole.clone());
            let bytes: Vec<&[u8]> = stream.chunks(1).collect();
            prop_assert_eq!(outcome(&bytes), whole);
        }
    }

    #[test]
    fn the_start_mark_is_found_wherever_pieces_end() {
        let chatter = b"welcome to this machine\n".repeat(4000);
        let stream = [&chatter[..], b"ab<\ntext\nab>0\n"].concat();
        for size in [1, 2, 3, 5, 4096, 16_384, 32_769, stream.len()] {
            let pieces: Vec<&[u8]> = stream.chunks(size).collect();
            let (_, text) = outcome(&pieces).unwrap();
            assert_eq!(text, Some((b"text".to_vec(), b"0".to_vec())), "pieces of {size}");
        }
    }

    #[test]
    fn the_bound_of_what_comes_before_holds_to_the_byte() {
        let mark = b"ab<\n";
        for (before, fits) in [(MOST_BEFORE, true), (MOST_BEFORE + 1, false)] {
            let stream = [&vec![b'x'; before][..], mark].concat();
            for cut in before - 2..=stream.len() {
                let outcome = outcome(&[&stream[..cut], &stream[cut..]]);
                assert_eq!(outcome.is_ok(), fits, "{before}, cut at {cut}");
            }
        }
    }

    #[test]
    fn what_comes_before_is_bounded_and_its_end_is_kept() {
        let mut marked = marked();
        let piece = vec![b'x'; 4096];
        let mut taken = 0;
        while marked.take(&piece).is_ok() {
            taken += piece.len();
            assert!(marked.so_far().len() <= 2 * KEPT + piece.len());
        }
        assert_eq!(taken, MOST_BEFORE);
        let mut other = super::Marked::new(b"ab<\n".to_vec(), b"\nab>".to_vec(), MOST);
        other.take(&vec![b'x'; 100_000]).unwrap();
        other.take(b"sudo: a password is required\n").unwrap();
        assert!(other.so_far().ends_with(b"sudo: a password is required\n"));
    }

    #[test]
    fn no_more_memory_than_is_allowed() {
        let mut marked = Marked::new(b"ab<\n".to_vec(), b"\nab>".to_vec(), MOST_OUTPUT);
        marked.take(b"ab<\n").unwrap();
        let piece = vec![b'x'; 10_000];
        while marked.take(&piece).is_ok() {
            assert!(marked.bytes.capacity() <= MOST_OUTPUT + piece.len() + 4);
        }
    }
}
