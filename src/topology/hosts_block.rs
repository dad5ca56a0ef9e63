//! The guarded block in a hosts file that makes a server's view real.
//!
//! Everything outside of the block stays as it was, byte by byte, whatever it is. The edit exists twice: as a pure
//! function ([`apply`], [`remove`]), which says what is right, and as a shell script ([`script`]) that does the same
//! on the host, in place: a hosts file that is bind-mounted into a container never sees a file that replaces it. A
//! property test holds the two together.

use super::names::ClusterName;

/// What comes before the cluster's name in the first line of any cluster's block.
const BEGIN_PREFIX: &str = "# BEGIN etcd cluster ";
/// Stands in a block that was appended to a file whose last line had no end, so that removing it gives that back.
const NO_NEWLINE_NOTE: &str = "# (the line above had no newline at its end)";

/// The first line of the cluster's block, without line end.
#[must_use]
pub fn begin_mark(cluster: &ClusterName) -> String {
    format!("{BEGIN_PREFIX}{cluster} (managed by Terraform)")
}

/// The last line of the cluster's block, without line end.
#[must_use]
pub fn end_mark(cluster: &ClusterName) -> String {
    format!("# END etcd cluster {cluster} (managed by Terraform)")
}

/// The cluster's block with these lines between its marks; every line ends with a newline.
#[must_use]
pub fn render(cluster: &ClusterName, lines: &[String]) -> String {
    let mut block = begin_mark(cluster);
    block.push('\n');
    for line in lines {
        block.push_str(line);
        block.push('\n');
    }
    block.push_str(&end_mark(cluster));
    block.push('\n');
    block
}

/// The outcome of an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// The file already is as it should be.
    Unchanged,
    /// The file's new content.
    Changed(Vec<u8>),
}

/// A hosts file that can't be edited without a guess. Lines are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostsBlockError {
    /// A mark stands alone, or the marks stand in the wrong order, or there are several blocks.
    #[error(
        "the hosts file has {begins} line(s) {begin:?} and {ends} line(s) {end:?}, where one of each, in this order, \
         or none was expected; someone edited them: repair or delete that block by hand and apply again"
    )]
    BrokenBlock {
        /// The cluster's first mark.
        begin: String,
        /// The cluster's last mark.
        end: String,
        /// How many lines are the first mark.
        begins: usize,
        /// How many lines are the last mark.
        ends: usize,
    },
    /// Another cluster's block begins within this one.
    #[error(
        "line {line} of the hosts file begins another cluster's block within the block of {begin:?}; repair it by hand \
         and apply again"
    )]
    Interleaved {
        /// The cluster's first mark.
        begin: String,
        /// The line.
        line: usize,
    },
    /// Text files have none.
    #[error("the hosts file contains NUL bytes; it is damaged: repair it by hand and apply again")]
    NulByte,
}

/// Puts the cluster's `lines` into `file`: in the place of the cluster's block, or at the end if there is none.
///
/// # Errors
/// [`HostsBlockError`] if the file's marks are not what this module wrote; then nothing must be changed.
pub fn apply(file: &[u8], cluster: &ClusterName, lines: &[String]) -> Result<Edit, HostsBlockError> {
    let block = render(cluster, lines);
    let new = match find(file, cluster)? {
        Some(found) => {
            let mut new = file[..found.start].to_vec();
            push_block(&mut new, &block, found.after_unended_line);
            new.extend_from_slice(&file[found.end..]);
            new
        }
        None => {
            let mut new = file.to_vec();
            let unended = file.last().is_some_and(|last| *last != b'\n');
            if unended {
                new.push(b'\n');
            }
            push_block(&mut new, &block, unended);
            new
        }
    };
    Ok(edit(file, new))
}

/// Takes the cluster's block out of `file`.
///
/// # Errors
/// As for [`apply`].
pub fn remove(file: &[u8], cluster: &ClusterName) -> Result<Edit, HostsBlockError> {
    let Some(found) = find(file, cluster)? else {
        return Ok(Edit::Unchanged);
    };
    let mut new = file[..found.start].to_vec();
    if found.after_unended_line && found.end == file.len() && new.last() == Some(&b'\n') {
        new.pop();
    }
    new.extend_from_slice(&file[found.end..]);
    Ok(edit(file, new))
}

fn edit(old: &[u8], new: Vec<u8>) -> Edit {
    if new == old {
        Edit::Unchanged
    } else {
        Edit::Changed(new)
    }
}

fn push_block(new: &mut Vec<u8>, block: &str, after_unended_line: bool) {
    let (first, rest) = block.split_once('\n').unwrap_or((block, ""));
    new.extend_from_slice(first.as_bytes());
    new.push(b'\n');
    if after_unended_line {
        new.extend_from_slice(NO_NEWLINE_NOTE.as_bytes());
        new.push(b'\n');
    }
    new.extend_from_slice(rest.as_bytes());
}

struct Found {
    /// Offset of the first mark.
    start: usize,
    /// Offset behind the last mark's line end.
    end: usize,
    after_unended_line: bool,
}

fn find(file: &[u8], cluster: &ClusterName) -> Result<Option<Found>, HostsBlockError> {
    if file.contains(&0) {
        return Err(HostsBlockError::NulByte);
    }
    let (begin, end) = (begin_mark(cluster), end_mark(cluster));
    let (mut begins, mut ends) = (Vec::new(), Vec::new());
    let mut lines: Vec<&[u8]> = Vec::new();
    let mut offsets = vec![0];
    for line in file.split_inclusive(|b| *b == b'\n') {
        // An editor may have given the file other line ends; the marks are still the marks.
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text == begin.as_bytes() {
            begins.push(lines.len());
        } else if text == end.as_bytes() {
            ends.push(lines.len());
        }
        lines.push(text);
        offsets.push(offsets[offsets.len() - 1] + line.len());
    }
    let (first, last) = match (begins.as_slice(), ends.as_slice()) {
        ([], []) => return Ok(None),
        ([first], [last]) if first < last => (*first, *last),
        _ => {
            return Err(HostsBlockError::BrokenBlock {
                begin,
                end,
                begins: begins.len(),
                ends: ends.len(),
            });
        }
    };
    let foreign = |line: &&[u8]| line.starts_with(BEGIN_PREFIX.as_bytes());
    if let Some(inside) = lines[first + 1..last].iter().position(foreign) {
        return Err(HostsBlockError::Interleaved {
            begin,
            line: first + inside + 2,
        });
    }
    Ok(Some(Found {
        start: offsets[first],
        end: offsets[last + 1],
        after_unended_line: lines[first + 1] == NO_NEWLINE_NOTE.as_bytes(),
    }))
}

/// The same edit as a POSIX shell function, for the host:
///
/// ```text
/// edit_hosts FILE BEGIN_MARK END_MARK BLOCK
/// ```
///
/// `BLOCK` is what [`render`] gives, or empty to remove the block. It prints `changed` or `unchanged` and returns 0;
/// on a file that [`apply`] refuses it returns 65 and says why on standard error, and 74 if the file can't be read
/// or written. The file is written in place, never replaced, and only when its content changes; a lock (where the
/// host has `flock`) keeps two clusters' edits apart. Needs only awk, head, tail, tr, wc, mktemp and cat.
#[must_use]
pub fn script() -> &'static str {
    include_str!("hosts_block/edit.sh")
}

#[cfg(test)]
#[path = "hosts_block/tests.rs"]
mod tests;
