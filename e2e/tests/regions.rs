//! Two regions on embedded tables: a fence, and a replica for each.

use e2e::Switch;
use std::sync::Arc;
use thrum_schema::fence::{Fence, Refused, Region, TIMING};
use thrum_schema::world::{ManualWorld, World};
use thrum_schema::{ProjectId, UnixMs};
use thrum_store::Store;
use thrum_store::key::Key;
use thrum_store::regions::{CALL, ChangeError, FenceTable, FencedTable, Regions};
use thrum_store::sqlite::{Options, SqliteTable};
use thrum_store::table::{Item, Read, Table, TableError, Value, put};

const NOW: UnixMs = UnixMs(1_763_700_000_000);

fn table() -> Arc<SqliteTable> {
    Arc::new(SqliteTable::temporary(Options::default()).unwrap())
}

fn region(name: &str) -> Region {
    Region(name.to_owned())
}

/// Both regions; `a` is active.
struct Pair {
    world: Arc<ManualWorld>,
    /// The fence, and each region's way to it.
    fence: FenceTable,
    ways: [Arc<Switch>; 2],
    replicas: [Arc<SqliteTable>; 2],
    regions: [Regions; 2],
    ingest: [FencedTable; 2],
}

impl Pair {
    async fn new() -> Self {
        let world = ManualWorld::new(NOW, 7);
        let stored = table();
        let fence = FenceTable::new(stored.clone());
        let first = Fence::new(region("a"), NOW, &TIMING);
        assert!(fence.create(&first).await.unwrap());
        let replicas = [table(), table()];
        let ways = [(); 2].map(|()| Arc::new(Switch::new(stored.clone())));
        let regions = [0, 1].map(|i| {
            let name = region(["a", "b"][i]);
            Regions::new(name, FenceTable::new(ways[i].clone()), world.clone())
        });
        let ingest = [0, 1].map(|i| {
            let replica = |i: usize| {
                let table: Arc<dyn Table> = replicas[i].clone();
                (region(["a", "b"][i]), table)
            };
            FencedTable::active(regions[i].clone(), [replica(0), replica(1)])
        });
        Self {
            world,
            fence,
            ways,
            replicas,
            regions,
            ingest,
        }
    }

    /// Writes an item through ingest in a region; in which replicas it is then.
    async fn write(&self, from: usize, name: &str) -> Result<[bool; 2], TableError> {
        let key = Key::new(name, "x");
        let mut item = Item::default();
        item.insert("pk".into(), Value::S(name.to_owned()));
        item.insert("sk".into(), Value::S("x".to_owned()));
        self.ingest[from].write(put(item)).await?;
        let mut found = [false; 2];
        for (found, replica) in found.iter_mut().zip(&self.replicas) {
            let read = replica.get(key.clone(), Read::Consistent).await?;
            *found = read.is_some();
        }
        Ok(found)
    }

    async fn renew(&self, region: usize) -> Result<Option<Fence>, ChangeError> {
        let now = self.world.now();
        let renew = |fence: &Fence, me: &Region| fence.renewed(me, now, &TIMING);
        self.regions[region].change(renew).await
    }

    async fn take_over(&self, region: usize) -> Result<Option<Fence>, ChangeError> {
        let now = self.world.now();
        let take = |fence: &Fence, me: &Region| fence.taken_over(me, now, &TIMING);
        self.regions[region].change(take).await
    }
}

async fn may_act(pair: &Pair, region: usize) -> Option<u64> {
    pair.regions[region].may_act(CALL).await.unwrap()
}

#[tokio::test]
async fn ingest_everywhere_writes_to_the_active_region_alone() {
    let pair = Pair::new().await;
    assert_eq!(pair.write(0, "one").await.unwrap(), [true, false]);
    assert_eq!(pair.write(1, "two").await.unwrap(), [true, false]);
    assert_eq!(may_act(&pair, 0).await, Some(1));
    assert_eq!(may_act(&pair, 1).await, None);

    // `a` dies. Its replica is written as long as its lease lasts, and nobody's after that.
    pair.world.advance(52_000);
    assert_eq!(pair.write(1, "three").await.unwrap(), [true, false]);
    pair.world.advance(1);
    for from in [0, 1] {
        let refused = pair.write(from, "four").await.unwrap_err().to_string();
        assert!(refused.contains("the lease of a ends"), "{refused}");
    }
    let early = pair.take_over(1).await.unwrap_err();
    assert!(matches!(
        early,
        ChangeError::Refused(Refused::Leased { .. })
    ));
    pair.world.advance(22_000);
    let taken = pair.take_over(1).await.unwrap().unwrap();
    assert_eq!((taken.active, taken.epoch), (region("b"), 2));
    assert_eq!(pair.write(1, "five").await.unwrap(), [false, true]);
    assert_eq!(pair.write(0, "six").await.unwrap(), [false, true]);
    // It does not judge before it has repaired.
    assert_eq!(may_act(&pair, 1).await, None);
    let repaired = |fence: &Fence, me: &Region| fence.repaired(me);
    assert!(pair.regions[1].change(repaired).await.unwrap().is_some());
    assert_eq!(may_act(&pair, 1).await, Some(2));
    // `a` comes back, and learns that it is not active any more.
    let late = pair.renew(0).await.unwrap_err();
    assert!(matches!(late, ChangeError::Refused(Refused::NotActive(_))));
    assert_eq!(may_act(&pair, 0).await, None);
}

#[tokio::test]
async fn a_region_that_is_cut_off_from_the_fence_stops_within_seconds() {
    let pair = Pair::new().await;
    pair.write(0, "one").await.unwrap();
    pair.ways[0].off();
    pair.world.advance(4_999);
    assert_eq!(pair.write(0, "two").await.unwrap(), [true, false]);
    pair.world.advance(1);
    assert!(pair.write(0, "three").await.is_err());
    assert!(pair.regions[0].may_act(CALL).await.is_err());
    assert!(pair.renew(0).await.is_err());
    // The other one still reaches it.
    assert_eq!(pair.write(1, "four").await.unwrap(), [true, false]);
}

#[tokio::test]
async fn of_two_changes_one_succeeds_and_its_repetition_is_recognised() {
    let pair = Pair::new().await;
    let read = pair.fence.read().await.unwrap().unwrap();
    let renewed = read.renewed(&region("a"), NOW + 20_000, &TIMING).unwrap();
    let handed = read.handed_over(&region("b")).unwrap();
    assert!(pair.fence.replace(&read, &renewed).await.unwrap());
    assert!(pair.fence.replace(&read, &renewed).await.unwrap(), "again");
    assert!(!pair.fence.replace(&read, &handed).await.unwrap());
    assert!(!pair.fence.create(&read).await.unwrap());
    assert_eq!(pair.fence.read().await.unwrap(), Some(renewed));
}

/// Everything that Thrum does with its table works on the active replica.
#[tokio::test]
async fn a_store_works_on_the_active_replica() {
    let Pair {
        world,
        replicas,
        ingest,
        ..
    } = Pair::new().await;
    let [_, from] = ingest;
    let store = Store::new(Arc::new(from), "two regions", 1, world.clone());
    store.ensure_pipeline(world.now()).await.unwrap();
    store.probe(world.now()).await.unwrap();
    assert!(store.project(ProjectId::PIPELINE).await.is_ok());
    assert!(!replicas[0].items().await.unwrap().is_empty());
    assert!(replicas[1].items().await.unwrap().is_empty());
}

/// A region whose name nobody knows is written by nobody.
#[tokio::test]
async fn an_unknown_region_has_no_replica() {
    let pair = Pair::new().await;
    let read = pair.fence.read().await.unwrap().unwrap();
    let wrong = Fence {
        active: region("A"),
        version: read.version + 1,
        ..read.clone()
    };
    assert!(pair.fence.replace(&read, &wrong).await.unwrap());
    let refused = pair.write(0, "one").await.unwrap_err();
    assert!(matches!(refused, TableError::Invalid(_)), "{refused}");
}

/// Work that began before a takeover writes nowhere after it, not even if its region is active again.
#[tokio::test]
async fn work_ends_with_its_epoch() {
    let pair = Pair::new().await;
    let epoch = may_act(&pair, 0).await.unwrap();
    let own = FencedTable::own(pair.regions[0].clone(), pair.replicas[0].clone(), epoch);
    let read = async || own.get(Key::fence(), Read::Consistent).await;
    assert!(read().await.is_ok());
    pair.world.advance(100_000);
    assert!(read().await.is_err(), "the lease has ended");
    pair.take_over(1).await.unwrap().unwrap();
    // An ended lease is looked at again after a second.
    pair.world.advance(1_000);
    let refused = read().await.unwrap_err().to_string();
    assert!(refused.contains("before b became active"), "{refused}");
    let back = |fence: &Fence, _: &Region| fence.handed_over(&region("a"));
    pair.regions[1].change(back).await.unwrap().unwrap();
    pair.world.advance(100_000);
    pair.take_over(0).await.unwrap().unwrap();
    let refused = read().await.unwrap_err().to_string();
    assert!(refused.contains("before a became active"), "{refused}");
}
