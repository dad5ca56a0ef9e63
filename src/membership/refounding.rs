//! A plan that takes a founded cluster away and makes one in its place: the data would lie aside, and the new cluster would be empty. Terraform
//! plans so if a resource got another address without a `moved` block, and if a cluster got another name.

use std::collections::BTreeSet;

/// A cluster in a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// Where its servers are, as far as that is known.
    pub places: BTreeSet<String>,
}

impl Planned {
    fn shares_servers(&self, other: &Self) -> bool {
        !self.places.is_disjoint(&other.places)
    }
}

/// The clusters of one plan. What is planned later learns of what was planned before.
#[derive(Debug, Default)]
pub struct Clusters {
    going: Vec<(String, Planned)>,
    staying: Vec<(String, Planned)>,
    coming: Vec<Planned>,
}

impl Clusters {
    /// A founded cluster is to go; says which new one is to take its place.
    pub fn goes(&mut self, token: &str, cluster: Planned) -> Option<Planned> {
        self.is_of_this_plan(token);
        let in_place = |new: &&Planned| new.name == cluster.name || new.shares_servers(&cluster);
        let found = self.coming.iter().find(in_place).cloned();
        self.going.push((token.to_owned(), cluster));
        found
    }

    /// A founded cluster is to stay, or is to be replaced: then the plan of the new one follows.
    pub fn stays(&mut self, token: &str, cluster: Planned) {
        self.is_of_this_plan(token);
        self.staying.push((token.to_owned(), cluster));
    }

    /// A cluster is to be made; says in which founded one's place.
    pub fn comes(&mut self, cluster: Planned) -> Option<Planned> {
        let going = { self.going.iter() }.filter(|(_, old)| old.name == cluster.name || old.shares_servers(&cluster));
        let staying =
            { self.staying.iter() }.filter(|(_, old)| old.name == cluster.name && old.shares_servers(&cluster));
        let found = going.chain(staying).map(|(_, old)| old.clone()).next();
        self.coming.push(cluster);
        found
    }

    /// Another run begins.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// A cluster is planned once in a plan. The second time it is another one's.
    fn is_of_this_plan(&mut self, token: &str) {
        let mut before = self.going.iter().chain(&self.staying);
        if before.any(|(known, _)| known == token) {
            self.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(name: &str, places: &[&str]) -> Planned {
        Planned {
            name: name.to_owned(),
            places: places.iter().map(|place| (*place).to_owned()).collect(),
        }
    }

    #[test]
    fn a_cluster_that_takes_anothers_place_is_seen_in_either_order() {
        let (main, renamed) = (cluster("main", &["1", "2"]), cluster("prod", &["2", "3"]));
        let mut plan = Clusters::default();
        assert_eq!(plan.goes("t", main.clone()), None);
        assert_eq!(plan.comes(main.clone()), Some(main.clone()), "moved without `moved`");
        let mut plan = Clusters::default();
        assert_eq!(plan.comes(renamed.clone()), None);
        assert_eq!(
            plan.goes("t", main.clone()),
            Some(renamed),
            "renamed, on the same servers"
        );
        let mut plan = Clusters::default();
        plan.stays("t", main.clone());
        assert_eq!(plan.comes(main.clone()), Some(main.clone()), "-replace");
        // Clusters of the same name at other places, one after the other, need another plan only if one goes.
        let elsewhere = cluster("main", &["7"]);
        let mut plan = Clusters::default();
        plan.stays("t", main.clone());
        assert_eq!(plan.comes(elsewhere.clone()), None);
        let mut plan = Clusters::default();
        plan.goes("t", main);
        assert_eq!(plan.comes(cluster("other", &["9"])), None);
        assert!(plan.comes(elsewhere).is_some());
    }

    #[test]
    fn a_later_plan_does_not_see_what_an_earlier_one_said() {
        let main = cluster("main", &["1"]);
        let mut plans = Clusters::default();
        plans.stays("t", main.clone());
        plans.comes(cluster("other", &["2"]));
        plans.stays("t", main.clone());
        assert_eq!(plans.coming, []);
        assert_eq!(plans.goes("t", main), None);
    }
}
