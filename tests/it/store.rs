//! The store's conformance suite: functions that take any store, stamped once
//! per engine. A further engine joins by one `conformance!` line.

mod abandoned;
mod append;
mod consumers;
mod discards;
mod engines;
mod expiries;
mod lapse;
mod late;
mod leases;
mod model;
mod pages;
mod restores;
mod sessions;

pub use engines::postgres_options;

/// A test per function of the suite, each with a store of its own.
macro_rules! stamp {
    ($open:path; $($topic:ident { $($name:ident)+ })+) => {
        $(mod $topic {
            $(#[tokio::test]
            async fn $name() {
                let opened = $open(crate::store::$topic::LAPSE).await;
                crate::store::$topic::$name(&*opened.store).await;
            })+
        })+
    };
}

/// The whole suite against the engine that `$open` opens.
macro_rules! conformance {
    ($engine:ident, $open:path) => {
        mod $engine {
            stamp! { $open;
                append {
                    ids_grow_in_the_order_of_the_request
                    requests_of_one_commit_get_runs_of_their_own
                    repeated_request_returns_the_first_ids
                    repeat_inside_one_commit_returns_the_first_ids
                    request_ids_belong_to_their_user
                    same_request_id_with_other_events_is_refused
                    text_is_kept_to_the_letter
                }
                abandoned {
                    abandoned_reads_leave_the_connections_sound
                    abandoned_writes_leave_the_connections_sound
                }
                pages {
                    page_is_bounded_by_events
                    page_is_bounded_by_bytes_but_takes_one_event
                    page_is_bounded_by_its_span
                    page_takes_what_the_filter_takes
                    filtered_page_looks_at_a_bounded_number_of_rows
                    page_of_nothing_reaches_the_end
                    tail_sees_every_event_once
                    first_at_finds_the_lowest_id
                }
                consumers {
                    registration_is_idempotent
                    positions_move_forward_only
                    advance_is_fenced_by_the_epoch
                    advance_of_many_is_answered_in_order
                    seek_moves_anywhere_under_a_new_epoch
                    unregistered_consumer_is_gone
                    epochs_are_never_reused
                    consumers_are_listed_by_ident
                    idents_are_compared_by_letter_case
                }
                sessions {
                    session_opens_under_a_new_epoch
                    yielding_session_leaves_an_open_one_alone
                    other_session_takes_over
                    closed_session_makes_room
                    close_of_an_earlier_session_changes_nothing
                    seek_and_unregistration_end_a_session
                    beat_tells_what_was_credited
                }
                lapse {
                    session_of_a_silent_replica_is_open_no_more
                }
                leases {
                    lease_has_one_holder
                    lapsed_lease_is_taken_over_under_a_higher_fence
                    lease_lapses_by_itself
                    released_lease_is_free_at_once
                    of_many_claimants_one_holds
                }
                discards {
                    what_everybody_has_goes
                    last_row_is_kept
                    batches_go_on_where_the_last_one_ended
                    nothing_goes_without_a_consumer
                    consumer_at_zero_holds_everything
                    stopped_consumer_holds_everything
                    nothing_above_the_saved_frontier_goes
                    young_events_stay
                    archiver_must_have_begun_when_archiving
                    who_was_replaced_deletes_nothing
                    place_that_is_gone_is_refused
                    registration_and_discard_do_not_miss_each_other
                }
                expiries {
                    silent_consumer_is_removed
                    open_session_is_life
                    who_was_replaced_removes_nobody
                    leases_are_listed
                }
                restores {
                    audit_of_a_sound_database_stops_nobody
                    known_id_above_the_head_is_named
                    frontier_is_saved_and_never_goes_back
                }
                late {
                    visible_ids_inside_ranges_are_told
                    many_ranges_are_one_question
                    consumers_are_moved_back_once_for_each_late_id
                    every_replica_can_tell_that_somebody_was_moved_back
                    stopped_consumer_is_left_where_it_is
                    skips_are_kept_and_told_from_the_highest_down
                    restore_ends_what_was_decided_about_ids_above_the_head
                }
            }

            #[test]
            fn behaves_as_its_model() {
                crate::store::model::check($open);
            }
        }
    };
}

conformance!(sqlite, crate::store::engines::sqlite);
conformance!(postgres, crate::store::engines::postgres);
conformance!(mysql, crate::store::engines::mysql);
