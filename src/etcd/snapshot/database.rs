//! As much of etcd's database file (bbolt) as it takes to know what is in a snapshot: its two meta pages, and a walk down a tree of
//! pages. Nothing in the file is trusted: every length is checked, and no walk goes round in circles.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};

use super::Inside;

/// bbolt's `magic` and the version of its format.
const MAGIC: u32 = 0xED0C_DAED;
const FORMAT: u32 = 2;
/// Bytes of a page's header: its number, flags, count of elements, count of pages that it runs over to.
const HEADER: usize = 16;
/// Bytes of an element in a page, and of a bucket's header.
const ELEMENT: usize = 16;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
/// The mark of an element that is a bucket.
const BUCKET: u32 = 0x01;
const PAGE_SIZES: std::ops::RangeInclusive<u64> = 512..=65536;
/// No tree of 8 GiB is that deep.
const DEPTH: usize = 32;
/// No page with keys and small values is larger; a value of etcd's may be a few MiB.
const LONGEST_PAGE: u64 = 16 * 1024 * 1024;

#[derive(Debug)]
pub(super) enum DatabaseError {
    Read(io::Error),
    Foreign(&'static str),
}

impl From<io::Error> for DatabaseError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof => Self::Foreign("its database ends before it should"),
            _ => Self::Read(error),
        }
    }
}

/// The newer one of the meta pages.
pub(super) struct Database {
    page_size: u64,
    root: u64,
}

/// A bucket: the page of its root, or that page itself where it is small.
enum Bucket {
    Page(u64),
    Inline(Page),
}

/// A page, or a run of them.
struct Page(Vec<u8>);

/// An element of a leaf.
struct Leaf<'a> {
    flags: u32,
    key: &'a [u8],
    value: &'a [u8],
}

const CUT: DatabaseError = DatabaseError::Foreign("a page of its database makes no sense");

impl Database {
    pub(super) fn open(file: &mut File) -> Result<Self, DatabaseError> {
        let mut first = [0; 80];
        file.seek(SeekFrom::Start(0))?;
        file.read_exact(&mut first)
            .map_err(|error| match DatabaseError::from(error) {
                DatabaseError::Foreign(_) => DatabaseError::Foreign("it is too short"),
                other => other,
            })?;
        let meta = meta(&first).ok_or(DatabaseError::Foreign("it does not begin as a database of etcd does"))?;
        let page_size = meta.page_size;
        let mut second = [0; 80];
        file.seek(SeekFrom::Start(page_size))?;
        file.read_exact(&mut second)?;
        let newest = [Some(meta), self::meta(&second)]
            .into_iter()
            .flatten()
            .filter(|meta| meta.page_size == page_size)
            .max_by_key(|meta| meta.transaction);
        let root = newest.map_or(0, |meta| meta.root);
        Ok(Self { page_size, root })
    }

    pub(super) fn contents(&self, file: &mut File) -> Result<Inside, DatabaseError> {
        let no_keys = DatabaseError::Foreign("its database has no bucket with keys");
        let keys = self.bucket(file, b"key")?.ok_or(no_keys)?;
        let last = self.last_key(file, keys)?;
        let mut revision = last.as_deref().map_or(Some(1), main_revision).ok_or(CUT)?;
        // Where everything was compacted away, no key says how far it had come (etcd's `restore` of its key-value store).
        for name in [&b"finishedCompactRev"[..], b"scheduledCompactRev"] {
            let value = self.value(file, b"meta", name)?;
            revision = revision.max(value.as_deref().and_then(main_revision).unwrap_or(0));
        }
        let mut text = |bucket: &[u8], key: &[u8]| {
            let value = self.value(file, bucket, key)?;
            Ok::<_, DatabaseError>(value.and_then(|value| String::from_utf8(value).ok()))
        };
        Ok(Inside {
            revision,
            storage_version: text(b"meta", b"storageVersion")?,
            cluster_version: text(b"cluster", b"clusterVersion")?,
        })
    }

    fn value(&self, file: &mut File, bucket: &[u8], key: &[u8]) -> Result<Option<Vec<u8>>, DatabaseError> {
        let Some(bucket) = self.bucket(file, bucket)? else {
            return Ok(None);
        };
        let page = self.descend(file, bucket, |page| page.branch_of(key))?;
        let found = page.leaves()?.into_iter().find(|leaf| leaf.key == key);
        Ok(found.map(|leaf| leaf.value.to_vec()))
    }

    fn bucket(&self, file: &mut File, name: &[u8]) -> Result<Option<Bucket>, DatabaseError> {
        let page = self.descend(file, Bucket::Page(self.root), |page| page.branch_of(name))?;
        let leaves = page.leaves()?;
        let Some(leaf) = leaves.iter().find(|leaf| leaf.key == name && leaf.flags & BUCKET != 0) else {
            return Ok(None);
        };
        match number64(leaf.value, 0).ok_or(CUT)? {
            0 => Ok(Some(Bucket::Inline(Page(
                leaf.value.get(ELEMENT..).ok_or(CUT)?.to_vec(),
            )))),
            root => Ok(Some(Bucket::Page(root))),
        }
    }

    fn last_key(&self, file: &mut File, bucket: Bucket) -> Result<Option<Vec<u8>>, DatabaseError> {
        let page = self.descend(file, bucket, |page| page.count().checked_sub(1))?;
        Ok(page.leaves()?.last().map(|leaf| leaf.key.to_vec()))
    }

    /// From a bucket's root to a leaf, by the element that `choose` says.
    fn descend(
        &self,
        file: &mut File,
        bucket: Bucket,
        choose: impl Fn(&Page) -> Option<usize>,
    ) -> Result<Page, DatabaseError> {
        let mut page = match bucket {
            Bucket::Page(number) => self.page(file, number)?,
            Bucket::Inline(page) => page,
        };
        for _ in 0..DEPTH {
            if page.is(LEAF) {
                return Ok(page);
            }
            if !page.is(BRANCH) {
                return Err(CUT);
            }
            let at = choose(&page).ok_or(CUT)?;
            let next = number64(&page.0, HEADER + at * ELEMENT + 8).ok_or(CUT)?;
            page = self.page(file, next)?;
        }
        Err(CUT)
    }

    fn page(&self, file: &mut File, number: u64) -> Result<Page, DatabaseError> {
        let start = number.checked_mul(self.page_size).ok_or(CUT)?;
        let mut header = [0; HEADER];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut header)?;
        let over = number32(&header, 12).ok_or(CUT)?;
        let length = (u64::from(over) + 1) * self.page_size;
        if length > LONGEST_PAGE || number64(&header, 0) != Some(number) {
            return Err(CUT);
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| CUT)?];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut bytes)?;
        Ok(Page(bytes))
    }
}

impl Page {
    fn is(&self, flag: u16) -> bool {
        number16(&self.0, 8).is_some_and(|flags| flags & flag != 0)
    }

    fn count(&self) -> usize {
        number16(&self.0, 10).map_or(0, usize::from)
    }

    /// The branch in which a key is, if it is there.
    fn branch_of(&self, key: &[u8]) -> Option<usize> {
        let after = (0..self.count()).find(|at| self.branch_key(*at).is_none_or(|first| first > key));
        Some(after.unwrap_or(self.count()).saturating_sub(1))
    }

    fn branch_key(&self, at: usize) -> Option<&[u8]> {
        let element = HEADER + at * ELEMENT;
        let position = usize::try_from(number32(&self.0, element)?).ok()?;
        let length = usize::try_from(number32(&self.0, element + 4)?).ok()?;
        self.piece(element, position, length)
    }

    fn leaves(&self) -> Result<Vec<Leaf<'_>>, DatabaseError> {
        (0..self.count()).map(|at| self.leaf(at).ok_or(CUT)).collect()
    }

    fn leaf(&self, at: usize) -> Option<Leaf<'_>> {
        let element = HEADER + at * ELEMENT;
        let part = |offset| usize::try_from(number32(&self.0, element + offset)?).ok();
        let (position, key, value) = (part(4)?, part(8)?, part(12)?);
        Some(Leaf {
            flags: number32(&self.0, element)?,
            key: self.piece(element, position, key)?,
            value: self.piece(element, position.checked_add(key)?, value)?,
        })
    }

    fn piece(&self, element: usize, position: usize, length: usize) -> Option<&[u8]> {
        let start = element.checked_add(position)?;
        self.0.get(start..start.checked_add(length)?)
    }
}

struct Meta {
    page_size: u64,
    root: u64,
    transaction: u64,
}

/// A meta page, if it is one: its own checksum (FNV-1a) is in it.
fn meta(page: &[u8]) -> Option<Meta> {
    let body = page.get(HEADER..HEADER + 56)?;
    let checksum = body.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let page_size = u64::from(number32(page, HEADER + 8)?);
    let valid = number32(page, HEADER)? == MAGIC
        && number32(page, HEADER + 4)? == FORMAT
        && PAGE_SIZES.contains(&page_size)
        && page_size.is_power_of_two()
        && number64(page, HEADER + 56)? == checksum;
    valid.then_some(Meta {
        page_size,
        root: number64(page, HEADER + 16)?,
        transaction: number64(page, HEADER + 48)?,
    })
}

/// The main part of a revision as etcd writes it: eight bytes, an underscore, and what follows.
fn main_revision(key: &[u8]) -> Option<i64> {
    let main = key.first_chunk::<8>()?;
    (key.get(8) == Some(&b'_')).then(|| i64::from_be_bytes(*main))
}

fn number16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn number32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn number64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
