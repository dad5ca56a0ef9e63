//! What is wrong with the data of one member, and what can be done about it without harm to its cluster. PURE.

use std::collections::BTreeMap;
use std::fmt;

use super::quorum;

/// What is wrong with a member's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// bbolt, or the reader of the write-ahead log, gave up on a file.
    Files,
    /// It has told the cluster more than its data holds, as after a machine was set back to an older image
    /// (raft, `log.go`: `tocommit … is out of range`).
    SetBack,
    /// It is the data of another server's member. etcd takes its ID from its data, so two processes have one ID.
    Copied {
        /// The other server.
        from: String,
    },
    /// It does not run, and another server runs as this member, with a copy of its data, which is newer now.
    Doubled {
        /// The other server.
        at: String,
    },
}

impl Damage {
    /// A stable name of the kind.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::SetBack => "set-back",
            Self::Copied { .. } => "copied",
            Self::Doubled { .. } => "doubled",
        }
    }

    /// What a member's log says of itself.
    pub fn of_log(code: &str) -> Option<Self> {
        [Self::Files, Self::SetBack].into_iter().find(|one| one.code() == code)
    }

    /// What can be done about it, and whether that is safe now: `healthy` of the `others` take part in the cluster.
    pub fn advice(&self, server: &str, others: usize, healthy: usize) -> String {
        let remedy = format!(
            "`terraform apply -replace='etcd_member.<name>[\"{server}\"]'` takes the member out of the cluster, sets its data aside, and has \
             it join again with the data of the others."
        );
        let needed = quorum(others);
        if let Self::Doubled { at } = self {
            return format!(
                "{self} Do not replace it. Stop the service on {at}. Move the folder `member` out of the data directory here, and the folder \
                 `member` of {at} into its place, with the same owner. Start the service here. Then apply: the member of {at} joins again."
            );
        }
        if others == 0 {
            return format!("{self} It is the only member: see the guide on disaster recovery. Do not replace it.");
        }
        if healthy < needed {
            return format!(
                "{self} Do not replace it yet: without it {others} members would remain, of which {needed} have to agree, and {healthy} are \
                 well now. Bring the others back first. Then: {remedy}"
            );
        }
        format!(
            "{self} {remedy} That is safe now: without it {others} members remain, {needed} of them have to agree, and {healthy} are well."
        )
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files => f.write_str("etcd can't read its own files: the member's data is damaged."),
            Self::SetBack => f.write_str(
                "The member's data is older than what it has told the cluster, as after its machine was set back to an older image.",
            ),
            Self::Copied { from } => write!(
                f,
                "The member's data is a copy of that of {from}, as on a cloned machine. etcd takes its ID from its data, so it runs as the \
                 member of {from}. Two processes with one ID can vote twice, and acknowledged writes can be lost."
            ),
            Self::Doubled { at } => write!(
                f,
                "The etcd on {at} runs as this member, with a copy of its data, which has gone on since. Started with older data, this member \
                 could lose acknowledged writes."
            ),
        }
    }
}

/// Whose data a server's member has, if it is another server's: `id` is what its etcd answers, or what its data says; `names` has the
/// servers by the IDs of their members.
pub fn copied(server: &str, id: u64, names: &BTreeMap<u64, String>) -> Option<Damage> {
    let from = names.get(&id).filter(|name| *name != server)?.clone();
    Some(Damage::Copied { from })
}

/// Who runs as the member with this ID while that one does not run, by the servers that answer as another one and the IDs that they answer with.
pub fn doubled(server: &str, id: Option<u64>, copies: &BTreeMap<String, u64>) -> Option<Damage> {
    let mut doubles = copies.iter().filter(|(at, one)| *at != server && Some(**one) == id);
    let (at, _) = doubles.next()?;
    Some(Damage::Doubled { at: at.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_replaced_only_while_the_others_are_a_quorum() {
        let said = |others, healthy| Damage::Files.advice("b1", others, healthy);
        assert!(said(2, 2).contains("-replace='etcd_member.<name>[\"b1\"]'"));
        assert!(
            said(2, 2)
                .contains("That is safe now: without it 2 members remain, 2 of them have to agree, and 2 are well")
        );
        assert!(said(2, 1).contains("Do not replace it yet"));
        assert!(said(0, 0).contains("Do not replace it."));
    }

    #[test]
    fn data_is_a_copy_only_if_its_id_is_another_servers() {
        let names = BTreeMap::from([(1, "a1".to_owned()), (2, "b1".to_owned())]);
        let from = "a1".to_owned();
        assert_eq!(copied("b1", 1, &names), Some(Damage::Copied { from }));
        assert_eq!(copied("b1", 2, &names), None);
        assert_eq!(
            copied("b1", 3, &names),
            None,
            "a member that was removed, or not added yet"
        );
    }

    #[test]
    fn a_member_is_doubled_by_who_answers_with_its_id() {
        let copies = BTreeMap::from([("b1".to_owned(), 1)]);
        let at = "b1".to_owned();
        assert_eq!(doubled("a1", Some(1), &copies), Some(Damage::Doubled { at }));
        assert_eq!(doubled("a2", Some(2), &copies), None);
        assert_eq!(doubled("a2", None, &copies), None);
        let advice = Damage::Doubled { at: "b1".into() }.advice("a1", 2, 2);
        assert!(
            advice.contains("Do not replace it.") && !advice.contains("safe now"),
            "{advice}"
        );
    }

    #[test]
    fn a_log_tells_what_it_can_tell() {
        for one in [Damage::Files, Damage::SetBack] {
            assert_eq!(Damage::of_log(one.code()), Some(one));
        }
        assert_eq!(Damage::of_log("copied"), None);
    }
}
