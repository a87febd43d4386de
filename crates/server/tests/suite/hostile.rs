//! Contract, section 6: whatever is sent, the answer is the right refusal, nothing is stored, and the service goes on.
//!
//! Each [`probe::Probe`] is a request as bytes on the wire, and what must come back. All of them go to one real program;
//! in the end its log is searched for what it must not hold, and `doctor` examines what it has stored.

mod batches;
mod bodies;
mod framing;
mod heads;
mod keys;
mod mutants;
mod names;
mod probe;
mod routes;
mod slow;
mod stage;
mod urls;
mod values;
mod wire;

use probe::Probe;
use stage::Stage;
use std::collections::HashSet;

#[tokio::test]
async fn hostile_requests_are_refused_and_leave_no_trace() {
    let mut stage = Stage::begin().await;
    let groups = [
        ("keys", keys::probes(&stage)),
        ("routes", routes::probes(&stage)),
        ("names", names::probes(&stage)),
        ("urls", urls::probes(&stage)),
        ("values", values::probes(&stage)),
        ("bodies", bodies::probes(&stage)),
        ("batches", batches::probes(&stage)),
        ("framing", framing::probes(&stage)),
        ("heads", heads::probes(&stage)),
    ];
    let distinct: HashSet<&[u8]> = groups.iter().flat_map(|(_, probes)| probes).map(Probe::bytes).collect();
    println!("{} distinct requests", distinct.len());
    assert!(distinct.len() >= 300, "{} distinct requests", distinct.len());
    let mut complaints = Vec::new();
    for (group, probes) in groups {
        complaints.extend(stage.judge(group, probes).await);
    }
    assert!(complaints.is_empty(), "{} complaints\n{}", complaints.len(), complaints.concat());
    mutants::judge(&mut stage).await;
    stage.end().await;
}
