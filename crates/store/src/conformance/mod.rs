//! The suite that every engine must pass.
//!
//! An engine's test file is a few lines: it says how its store is opened ([`Engine`]) and calls
//! [`conformance_suite!`](crate::conformance_suite), which makes a test of every case. The cases of one method stand in
//! one module; `random` runs thousands of random operations against the engine and against [`model::Model`], which
//! keeps everything in maps and is the judge.
//!
//! A change of what a store does begins here.

pub mod accept;
pub mod claim;
pub mod detail;
pub mod examine;
pub mod expire;
pub mod fixture;
pub mod list;
pub mod lives;
pub mod model;
pub mod partners;
pub mod random;
pub mod record;
pub mod reopen;
pub mod retry;

use crate::Store;
use async_trait::async_trait;

/// One store of an engine under test.
#[async_trait]
pub trait Engine: Send + Sync {
    /// The store.
    type Store: Store;

    /// Opens the store: empty at first, and later with what is in it. Called again only after the store of before was
    /// dropped, as by a process that was killed.
    async fn open(&self) -> Self::Store;
}

/// Makes a test of every case. Takes an expression that makes a fresh [`Engine`].
#[macro_export]
macro_rules! conformance_suite {
    ($engine:expr) => {
        $crate::conformance_suite! { @cases $engine =>
            accept::new_events_are_kept, accept::a_batch_is_decided_one_by_one, accept::unknown_partners_are_told,
            accept::an_idempotency_key_makes_one_notification, accept::an_old_idempotency_key_counts_as_new,
            accept::a_repeat_tells_the_status_of_now, accept::equal_keys_at_the_same_moment_make_one_notification,
            accept::a_life_that_is_over_owns_nothing, accept::an_id_cannot_be_used_twice,
            record::an_acknowledgement_settles, record::a_failure_leads_to_the_next_turn,
            record::the_last_failure_settles, record::nowhere_to_send_settles, record::a_batch_is_answered_in_order,
            record::a_late_acknowledgement_settles, record::a_late_failure_is_only_a_fact,
            record::a_late_outcome_of_an_earlier_cycle_is_only_a_fact, record::a_settled_notification_stays_settled,
            record::an_attempt_may_be_repeated_under_its_number, record::what_is_gone_takes_no_facts,
            claim::only_due_rows_that_nobody_owns, claim::the_longest_due_first, claim::room_and_total_are_kept, claim::bytes_are_kept,
            claim::nobody_is_starved_by_total, claim::two_claims_never_share_a_row, claim::released_rows_are_claimed_again,
            claim::a_life_that_is_over_claims_nothing, claim::a_large_claim_is_whole, claim::a_claim_goes_around_all_partners,
            lives::a_heartbeat_tells_whether_the_life_goes_on, lives::several_lives_or_one_at_a_time,
            lives::who_stands_still_is_ended_and_who_moved_is_not, lives::what_is_owned_is_told_whole,
            lives::changes_are_told_to_the_other_nodes,
            retry::the_checks_come_in_order, retry::a_retry_begins_a_new_cycle, retry::three_retries_and_no_more,
            retry::ten_retries_a_minute, retry::two_at_once_make_one_cycle,
            partners::a_partner_is_kept_whole, partners::ids_are_taken_once, partners::partners_are_listed_in_order,
            partners::a_partner_changes, partners::settings_change, partners::failing_endpoints_are_kept, partners::keys_are_added_and_revoked,
            partners::platform_keys_are_added_and_revoked, partners::erasing_goes_in_slices,
            partners::an_erased_partner_is_gone, partners::what_is_erased_cannot_be_read,
            list::every_filter, list::a_transaction_that_many_share, list::pages, list::each_partner_sees_its_own,
            detail::errors_are_told, detail::attempts_are_told, detail::backlog_is_counted,
            expire::old_and_settled_goes, expire::slices_say_whether_there_is_more, expire::idempotency_keys_go_by_themselves,
            examine::a_healthy_store_has_no_violations,
            reopen::what_was_answered_is_there, reopen::a_new_life_frees_what_the_old_one_owned,
            random::operations_seed_1, random::operations_seed_2, random::operations_seed_3, random::operations_seed_4,
            random::operations_seed_from_the_environment,
        }
    };
    (@cases $engine:expr => $($module:ident :: $case:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::conformance::$module::$case($engine).await;
            }
        )*
    };
}
