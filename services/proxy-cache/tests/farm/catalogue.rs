//! The catalogue as it comes over a connection that breaks.

use rookery_proto::v1;

use crate::fake::Fake;
use crate::replica::{Replica, until, wire};

fn change(generation: u64, reset: bool, complete: bool, upserts: &[(&str, u8)]) -> v1::CatalogueChange {
    v1::CatalogueChange {
        module: "gentoo".to_owned(),
        generation,
        complete,
        changes: Some(v1::DistfileChanges {
            reset,
            upserts: upserts.iter().map(|&(name, version)| wire(name, version)).collect(),
            removes: Vec::new(),
        }),
        module_order: Vec::new(),
    }
}

async fn size(replica: &Replica, name: &str) -> Option<u64> {
    let found = replica.catalogue.resolve(&name.parse().unwrap(), None).await.unwrap();
    found.map(|known| known.distfile.size_bytes)
}

#[tokio::test]
async fn a_connection_lost_between_two_parts_leaves_nothing_half_applied() {
    let fake = Fake::start();
    fake.state.lock().catalogues.extend([
        (vec![change(1, true, false, &[("a", 1)]), change(1, false, true, &[("b", 1)])], true),
        (vec![change(2, true, false, &[("a", 2)])], true),
        (vec![change(2, true, false, &[("c", 2)])], false),
    ]);
    let replica = Replica::start(&fake.endpoint()).await;
    until("three connections", async || fake.state.lock().watches.len() == 3).await;
    assert_eq!((size(&replica, "a").await, size(&replica, "b").await), (Some(1), Some(1)));
    assert_eq!(size(&replica, "c").await, None, "generation 2 is not complete");
    let have: Vec<_> = fake.state.lock().watches.iter().map(|watch| watch.have.clone()).collect();
    assert!(have[0].is_empty());
    let first = v1::ModuleGeneration { module: "gentoo".to_owned(), generation: 1 };
    assert_eq!(have[1..], [vec![first.clone()], vec![first]]);
}

#[tokio::test]
async fn a_complete_reset_replaces_the_module() {
    let fake = Fake::start();
    fake.state.lock().catalogues.push_back((
        vec![
            change(1, true, true, &[("a", 1), ("b", 1)]),
            change(2, true, false, &[("c", 2)]),
            change(2, false, true, &[("d", 2)]),
        ],
        false,
    ));
    let replica = Replica::start(&fake.endpoint()).await;
    until("generation 2", async || size(&replica, "d").await == Some(2)).await;
    assert_eq!((size(&replica, "a").await, size(&replica, "c").await), (None, Some(2)));
}

#[tokio::test]
async fn parts_of_two_steps_that_are_mixed_are_given_up() {
    let fake = Fake::start();
    fake.state.lock().catalogues.extend([
        (vec![change(1, true, false, &[("a", 1)]), change(2, false, true, &[("b", 2)])], false),
        (vec![change(2, true, true, &[("c", 2)])], false),
    ]);
    let replica = Replica::start(&fake.endpoint()).await;
    until("the second connection", async || size(&replica, "c").await == Some(2)).await;
    assert_eq!((size(&replica, "a").await, size(&replica, "b").await), (None, None));
}

#[tokio::test]
async fn resolving_goes_on_while_maintenance_is_dead() {
    let mut fake = Fake::start();
    fake.state.lock().catalogues.push_back((vec![change(1, true, true, &[("a", 1)])], false));
    let replica = Replica::start(&fake.endpoint()).await;
    until("the import", async || !replica.catalogue.is_empty()).await;
    fake.kill();
    assert_eq!(size(&replica, "a").await, Some(1));
    fake.state.lock().catalogues.push_back((vec![change(2, false, true, &[("a", 2)])], false));
    fake.revive();
    until("generation 2", async || size(&replica, "a").await == Some(2)).await;
}

#[tokio::test]
async fn the_order_of_modules_comes_with_the_registration_too() {
    let fake = Fake::start();
    let guru = v1::CatalogueChange { module: "guru".to_owned(), ..change(1, true, true, &[("a", 2)]) };
    fake.state.lock().catalogues.push_back((vec![change(1, true, true, &[("a", 1)]), guru], true));
    fake.state.lock().module_order = vec!["guru".to_owned(), "gentoo".to_owned()];
    let replica = Replica::start(&fake.endpoint()).await;
    until("both modules, in order", async || size(&replica, "a").await == Some(2)).await;
}
