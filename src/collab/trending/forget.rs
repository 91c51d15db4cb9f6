//! How are engagements taken out of the counts again?
//!
//! Exact but for these: regions and items of regions that had to give way to others do not come back; what others did
//! more than forty half-lives before is estimated from the longer half-life. An item that others turned to as well
//! keeps the instant of its last engagement, and so does a region.

use std::collections::HashMap;

use super::counts::Counts;
use super::{GlobalCounts, MAX_ITEMS, Trending, is_counted};
use crate::collab::Engagement;

impl Trending {
    /// Takes engagements back, each given as it was observed.
    pub(in crate::collab) fn forget(&self, engagements: &[Engagement<'_>]) {
        let mut everywhere: HashMap<u32, Counts> = HashMap::new();
        let mut regional: HashMap<&str, HashMap<u32, Counts>> = HashMap::new();
        let mut events = 0;
        for &Engagement { item, at, region, .. } in engagements.iter().filter(|e| e.item.index() < MAX_ITEMS) {
            events += 1;
            everywhere.entry(item.0).or_insert(Counts::NONE).raise(at, &self.half_lives_s);
            if let Some(region) = region.filter(|region| is_counted(region)) {
                let local = regional.entry(region).or_default();
                local.entry(item.0).or_insert(Counts::NONE).raise(at, &self.half_lives_s);
            }
        }
        if events == 0 {
            return;
        }
        {
            let mut global = self.global.write();
            global.events = global.events.saturating_sub(events);
            for (item, taken) in everywhere {
                if let Some(own) = global.items.get_mut(item as usize)
                    && !own.counts.lower(&taken, &self.half_lives_s)
                {
                    *own = GlobalCounts::NONE;
                }
            }
            global.rebuild_boards();
        }
        let mut regions = self.regions.write();
        for (name, taken) in regional {
            let Some(local) = regions.get_mut(name) else { continue };
            for (item, taken) in taken {
                if local.items.get_mut(&item).is_some_and(|counts| !counts.lower(&taken, &self.half_lives_s)) {
                    local.items.remove(&item);
                }
            }
            if local.items.is_empty() {
                regions.remove(name);
            } else {
                local.rebuild_boards();
            }
        }
    }
}
