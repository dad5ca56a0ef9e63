//! The leader hands its leadership over before it is restarted or leaves.

use std::time::Duration;

use super::survey::Survey;
use super::talk::{Talk, TalkError};

const QUESTION: Duration = Duration::from_secs(5);

/// Moves the leadership from this member, if it leads, to the healthy voter that has applied most.
///
/// # Errors
/// If the leader does not answer, or refuses.
pub async fn hand_over(talk: &Talk<'_>, survey: &Survey) -> Result<(), TalkError> {
    if !survey.list.leads() {
        return Ok(());
    }
    let others = survey
        .members
        .iter()
        .filter(|one| !one.is_learner && Some(one.id) != survey.list.own);
    let fit = others.filter_map(|one| Some((survey.healthy.get(&one.id)?.raft_applied_index, one.id)));
    let Some((_, successor)) = fit.max() else {
        return Ok(());
    };
    // Only the leader itself takes the wish.
    let Some(name) = survey.names.get(&survey.leader) else {
        return Ok(());
    };
    let api = talk.to(name, QUESTION).await?;
    Ok(api.move_leader(successor, QUESTION).await?)
}
