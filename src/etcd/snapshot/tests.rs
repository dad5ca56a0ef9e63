use std::io::Write as _;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;

/// The smallest database with what is looked at: two meta pages, and buckets that are small enough to stand in their parent.
fn database() -> Vec<u8> {
    const PAGE: usize = 4096;
    let leaf_page = |elements: &[(u32, &[u8], Vec<u8>)]| {
        let mut page = vec![0u8; HEADER];
        page[8] = 0x02;
        page[10] = u8::try_from(elements.len()).unwrap();
        let mut data = Vec::new();
        for (at, (flags, key, value)) in elements.iter().enumerate() {
            let position = (elements.len() - at) * HEADER + data.len();
            for number in [*flags, cut(position), cut(key.len()), cut(value.len())] {
                page.extend(number.to_le_bytes());
            }
            data.extend_from_slice(key);
            data.extend_from_slice(value);
        }
        page.extend(data);
        page
    };
    let bucket = |elements: &[(u32, &[u8], Vec<u8>)]| [vec![0; HEADER], leaf_page(elements)].concat();
    let revision = |main: i64| [main.to_be_bytes().as_slice(), b"_", &[0; 8]].concat();
    let mut root = leaf_page(&[
        (1, b"cluster", bucket(&[(0, b"clusterVersion", b"3.6.0".to_vec())])),
        (
            1,
            b"key",
            bucket(&[(0, &revision(6), b"one".to_vec()), (0, &revision(7), b"two".to_vec())]),
        ),
        (1, b"meta", bucket(&[(0, b"storageVersion", b"3.6.0".to_vec())])),
    ]);
    root[0] = 3;
    let meta = |transaction: u64| {
        let mut page = vec![0u8; HEADER];
        for number in [0xED0C_DAEDu32, 2, 4096, 0] {
            page.extend(number.to_le_bytes());
        }
        for number in [3u64, 0, 2, 4, transaction] {
            page.extend(number.to_le_bytes());
        }
        let sum = page[HEADER..].iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        page.extend(sum.to_le_bytes());
        page
    };
    let mut file = Vec::new();
    for mut page in [meta(1), meta(2), Vec::new(), root] {
        page.resize(PAGE, 0);
        file.extend(page);
    }
    file
}

const HEADER: usize = 16;

fn cut(number: usize) -> u32 {
    u32::try_from(number).unwrap()
}

fn snapshot() -> Vec<u8> {
    let database = database();
    let sum = Sha256::digest(&database);
    [database.as_slice(), sum.as_slice()].concat()
}

fn read_bytes(bytes: &[u8]) -> Result<Facts, SnapshotError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    read(file.path())
}

#[test]
fn what_is_in_a_snapshot_is_read() {
    let whole = snapshot();
    let facts = read_bytes(&whole).unwrap();
    assert_eq!((facts.size, facts.revision), (whole.len() as u64, 7));
    assert_eq!(facts.storage_version.as_deref(), Some("3.6.0"));
    assert_eq!(
        (facts.cluster_version.as_deref(), facts.needs_minor()),
        (Some("3.6.0"), Some(6))
    );
    assert_eq!(facts.sha256, HEXLOWER.encode(&Sha256::digest(&whole)));
}

#[test]
fn what_is_none_is_told_apart() {
    let whole = snapshot();
    assert!(matches!(read_bytes(b""), Err(SnapshotError::Foreign { .. })));
    assert!(matches!(read_bytes(&[7; 9000]), Err(SnapshotError::Foreign { .. })));
    assert!(matches!(read_bytes(&database()), Err(SnapshotError::Cut { .. })));
    assert!(matches!(
        read_bytes(&whole[..whole.len() - 1]),
        Err(SnapshotError::Cut { .. })
    ));
    // Cut off at a sector, with something behind it that could be a checksum.
    assert!(matches!(
        read_bytes(&whole[..12_288 + 32]),
        Err(SnapshotError::Damaged { .. })
    ));
    let missing = read(Path::new("/nowhere/at/all")).unwrap_err();
    assert!(matches!(missing, SnapshotError::Read { .. }), "{missing}");
    assert!(matches!(read(Path::new("/")), Err(SnapshotError::Foreign { .. })));
}

proptest! {
    #[test]
    fn one_changed_byte_is_always_found(at in 0usize..16_416, bit in 0u8..8) {
        let mut bytes = snapshot();
        bytes[at] ^= 1 << bit;
        prop_assert!(read_bytes(&bytes).is_err());
    }

    #[test]
    fn a_database_that_makes_no_sense_does_no_harm(changes in prop::collection::vec((0usize..16_384, any::<u8>()), 1..40)) {
        let mut bytes = database();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        let sum = Sha256::digest(&bytes);
        // Whatever comes of it, it ends.
        let _ = read_bytes(&[bytes.as_slice(), sum.as_slice()].concat());
    }

    #[test]
    fn pieces_make_no_difference(cuts in prop::collection::vec(1usize..5000, 0..20)) {
        let whole = snapshot();
        let mut checking = Checking::default();
        let mut rest = whole.as_slice();
        for cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            checking.update(piece);
            rest = after;
        }
        checking.update(rest);
        let (size, sha256) = checking.finish("it").unwrap();
        prop_assert_eq!((size, sha256), (whole.len() as u64, HEXLOWER.encode(&Sha256::digest(&whole))));
    }
}
