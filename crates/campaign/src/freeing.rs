//! How long it took until what a dead life owned was free.
//!
//! The time counts from its death, as long as there was somebody to free it: a node that ran undisturbed, with its database.
//! So it is the longest stretch between death and freeing through which one and the same node was undisturbed.

use crate::ledger::{Disturbed, Millis, Span};

/// How long the best placed node had for what was free at `freed`, of a life that was over at `dead`.
pub(crate) fn took(disturbed: &[Disturbed], nodes: usize, dead: Millis, freed: Millis) -> Millis {
    (0..nodes).map(|node| longest_rest(disturbed, node, dead, freed)).max().unwrap_or_default()
}

/// The longest part of a span in which nothing disturbed a node.
fn longest_rest(disturbed: &[Disturbed], node: usize, from: Millis, until: Millis) -> Millis {
    let mut spans: Vec<Span> =
        disturbed.iter().filter(|one| one.node.is_none_or(|its| its == node)).map(|one| one.span).collect();
    spans.sort_by_key(|span| span.from);
    let (mut here, mut longest) = (from, 0);
    for span in spans {
        longest = longest.max(span.from.min(until).saturating_sub(here));
        here = here.max(span.until);
    }
    longest.max(until.saturating_sub(here))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disturbed(node: Option<usize>, from: Millis, until: Millis) -> Disturbed {
        Disturbed { node, span: Span { from, until } }
    }

    #[test]
    fn only_time_in_which_somebody_could_free_it_counts() {
        assert_eq!(took(&[], 2, 100, 500), 400);
        let one = [disturbed(Some(0), 150, 450)];
        assert_eq!((took(&one, 1, 100, 500), took(&one, 2, 100, 500)), (50, 400));
        let database = [disturbed(None, 200, 400), disturbed(Some(1), 90, 210), disturbed(Some(0), 410, 1000)];
        assert_eq!((took(&database, 2, 100, 500), took(&database, 1, 100, 500)), (100, 100));
        assert_eq!(took(&[disturbed(None, 0, 1000)], 3, 100, 500), 0);
    }
}
