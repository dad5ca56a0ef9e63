//! What a k3s cluster says about its servers.

use std::collections::BTreeMap;

use crate::membership::k3s::Refusal;
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::resource::cluster::servers::Each;
use crate::resource::k3s::observe;

/// Says where data of a former k3s lies, before an empty cluster is founded.
pub(super) fn set_aside(cluster: &str, observed: &Each<observe::Observation>) -> Option<Diagnostic> {
    let places = observed.iter().filter_map(|(server, outcome)| {
        let aside = &outcome.as_ref().ok()?.aside;
        (!aside.is_empty()).then(|| format!("on server {server}: {}", aside.join(", ")))
    });
    let places: Vec<String> = places.collect();
    let detail = format!(
        "Data of a former k3s was set aside ({}). The new cluster does not have it. If it is not needed, delete it.",
        places.join("; ")
    );
    let warning =
        Diagnostic::warning(format!("The cluster {cluster} is founded empty"), detail).at(Path::of("servers"));
    (!places.is_empty()).then_some(warning)
}

/// One error for each server that is in the way.
pub(super) fn refusals_of(cluster: &str, refusals: &BTreeMap<String, Refusal>) -> Diagnostics {
    let all = refusals.iter().map(|(server, refusal)| {
        let detail = format!("Server {server} {refusal}.\nNothing was changed on any server.");
        Diagnostic::error(format!("k3s cluster {cluster} can't be on these servers"), detail)
            .at(Path::of("servers").key(server))
    });
    all.collect()
}
