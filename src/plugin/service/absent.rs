//! What the provider's blocks don't do, said in words.

use super::Service;
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::proto::tfplugin6::move_resource_state;

impl Service {
    pub(super) fn refuse_move(&self, request: &move_resource_state::Request) -> Diagnostics {
        let (from, to) = (&request.source_type_name, &request.target_type_name);
        self.catalog.resource(to).map_or_else(
            |absent| absent,
            |_| {
                Diagnostic::error(
                    format!("{from} cannot become {to}"),
                    format!(
                        "No resource of another type or provider can be moved to {to}. Use a `removed` block for the \
                         old one, and import the new one where it supports that."
                    ),
                )
                .into()
            },
        )
    }
}
