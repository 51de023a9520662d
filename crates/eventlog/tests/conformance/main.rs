//! One suite of statements about event logs, run on every adapter, and what JetStream promises
//! beyond it. The JetStream half needs a nats-server and fails where there is none:
//! `tests/tools/nats-server.sh` installs it.

#[cfg(test)]
mod adapters;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod nats;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod subscriptions;
#[cfg(test)]
mod writing;

/// Runs each statement on each adapter.
macro_rules! on_all_adapters {
    ($($module:ident: $($statement:ident),+;)+) => {
        on_adapter!(memory, Memory, $($module: $($statement),+;)+);
        on_adapter!(embedded, Embedded, $($module: $($statement),+;)+);
        on_adapter!(jetstream, JetStream, $($module: $($statement),+;)+);
    };
}

macro_rules! on_adapter {
    ($name:ident, $adapter:ident, $($module:ident: $($statement:ident),+;)+) => {
        #[cfg(test)]
        mod $name {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $statement() {
                    let mut adapter = crate::adapters::$adapter::new();
                    crate::$module::$statement(&mut adapter).await;
                }
            )+)+
        }
    };
}

on_all_adapters! {
    writing:
        commits_come_back_as_they_were_written,
        an_empty_log_has_no_commits_and_no_head,
        a_stale_head_is_a_conflict_and_nothing_is_stored,
        a_head_with_another_hash_is_a_conflict,
        of_two_racing_writers_exactly_one_wins_each_position,
        a_repeated_commit_is_stored_once,
        a_repeated_commit_is_stored_once_whatever_followed,
        a_commit_that_lost_may_be_stored_later,
        the_first_payload_of_a_commit_id_stands,
        the_same_id_on_another_stream_is_another_commit,
        many_writers_at_once_on_one_id_store_it_once,
        a_payload_of_the_greatest_size_is_stored_and_a_greater_one_refused,
        what_was_stored_outlives_the_adapter;
    subscriptions:
        stored_commits_come_first_and_new_ones_follow,
        filters_give_exactly_what_they_name,
        a_category_that_cannot_exist_matches_nothing,
        a_subscription_resumes_after_the_adapter_was_opened_again,
        a_slow_subscriber_misses_nothing,
        a_subscriber_beside_busy_writers_sees_each_commit_once_in_order,
        giving_up_waiting_loses_nothing,
        a_subscription_ends_with_its_log;
}
