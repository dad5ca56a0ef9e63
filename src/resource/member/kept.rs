//! What Terraform keeps beside a member's plan and state, and brings back: words of ours.

/// One of the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Its create was stopped before it was verified.
    Unverified,
    /// It is to be created. Terraform passes it to the delete of the one that it replaces too, and so tells a member that comes again from
    /// one that leaves for good.
    Created,
    /// Its cluster stays, as far as this run's plan of it was seen.
    ClusterStays,
    /// Its cluster is to be recovered without its server, as this run's plan of it says.
    Lost,
    /// Its server could not be reached when its view of the others changed.
    Unreached,
}

impl Word {
    fn text(self) -> &'static str {
        match self {
            Word::Unverified => "unverified",
            Word::Created => "created",
            Word::ClusterStays => "cluster-stays",
            Word::Lost => "lost",
            Word::Unreached => "unreached",
        }
    }

    /// As the only one.
    pub fn alone(self) -> Vec<u8> {
        self.text().as_bytes().to_vec()
    }

    /// Together with those that are kept already.
    pub fn with(self, kept: Vec<u8>) -> Vec<u8> {
        if kept.is_empty() {
            return self.alone();
        }
        if self.is_in(&kept) {
            return kept;
        }
        [kept.as_slice(), b" ", self.text().as_bytes()].concat()
    }

    /// Whether it is kept.
    pub fn is_in(self, kept: &[u8]) -> bool {
        kept.split(u8::is_ascii_whitespace)
            .any(|word| word == self.text().as_bytes())
    }

    /// The others that are kept.
    pub fn taken_from(self, kept: &[u8]) -> Vec<u8> {
        let words = kept.split(u8::is_ascii_whitespace);
        let others: Vec<&[u8]> = words.filter(|word| *word != self.text().as_bytes()).collect();
        others.join(&b' ')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_and_go() {
        let kept = Word::ClusterStays.with(Word::Created.alone());
        assert!(Word::ClusterStays.is_in(&kept) && Word::Created.is_in(&kept) && !Word::Unreached.is_in(&kept));
        assert_eq!(Word::ClusterStays.taken_from(&kept), Word::Created.alone());
        assert_eq!(Word::ClusterStays.with(kept.clone()), kept);
        assert_eq!(Word::ClusterStays.with(Vec::new()), Word::ClusterStays.alone());
        assert_eq!(Word::Created.taken_from(&Word::Created.alone()), Vec::<u8>::new());
    }
}
