//! The beginning of a write-ahead log, which says whose it is. PURE.
//!
//! Source: etcd `server/storage/wal/encoder.go` (a frame is a length and a record) and `walpb`. A segment begins with a record of its checksum
//! and one of metadata, which is etcd's `Metadata { NodeID, ClusterID }`.

use prost::Message;

/// How much of a segment is enough.
pub const HEAD: usize = 128;

const METADATA: i64 = 1;

#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(int64, optional, tag = "1")]
    kind: Option<i64>,
    #[prost(uint32, optional, tag = "2")]
    checksum: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "3")]
    data: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(uint64, optional, tag = "1")]
    member: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    cluster: Option<u64>,
}

/// The ID of the member whose log this is, from the first bytes of a segment; `None` if they don't say.
pub fn member_id(mut head: &[u8]) -> Option<u64> {
    loop {
        let (length, rest) = head.split_first_chunk::<8>()?;
        let field = u64::from_le_bytes(*length);
        // The lower 56 bits are the record's length. If the top bit is set, the lowest three of the top byte are the length of the padding.
        let record = usize::try_from(field & 0x00ff_ffff_ffff_ffff).ok()?;
        let padding = if field >> 63 == 1 {
            usize::try_from(field >> 56 & 0x7).ok()?
        } else {
            0
        };
        let record = rest.get(..record)?;
        let next = rest.get(record.len() + padding..);
        let record = Record::decode(record).ok()?;
        if record.kind == Some(METADATA) {
            return Metadata::decode(record.data?.as_slice()).ok()?.member;
        }
        head = next?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(record: &Record) -> Vec<u8> {
        let record = record.encode_to_vec();
        let padding = (8 - record.len() % 8) % 8;
        let mut field = record.len() as u64;
        if padding > 0 {
            field |= (0x80 | padding as u64) << 56;
        }
        [&field.to_le_bytes()[..], &record, &vec![0; padding]].concat()
    }

    #[test]
    fn the_metadata_of_a_segment_has_the_members_id() {
        let metadata = Metadata {
            member: Some(0x8e9e_05c5_2164_694d),
            cluster: Some(7),
        };
        let checksum = frame(&Record {
            kind: Some(4),
            checksum: Some(0),
            data: None,
        });
        let metadata = frame(&Record {
            kind: Some(METADATA),
            checksum: Some(1),
            data: Some(metadata.encode_to_vec()),
        });
        let head = [checksum, metadata].concat();
        assert!(head.len() <= HEAD);
        assert_eq!(member_id(&head), Some(0x8e9e_05c5_2164_694d));
        for cut in 0..head.len() {
            // What is cut off says nothing, or the same; it never panics.
            assert!(member_id(&head[..cut]).is_none_or(|id| id == 0x8e9e_05c5_2164_694d));
        }
        assert_eq!(member_id(&[0xff; HEAD]), None);
        assert_eq!(member_id(&[0; HEAD]), None);
    }
}
