//! `dim/performances`: one row a performance, ids in order.

use std::ops::Range;
use std::sync::Arc;

use crate::catalogue::{GENRE_NAMES, VENUES};
use crate::encode::{Batch, Texts, Values};
use crate::traffic::World;

/// Some rows.
#[derive(Debug)]
pub(crate) struct PerformanceBatch<'a> {
    world: &'a World,
    genres: Arc<Vec<String>>,
    venues: Arc<Vec<String>>,
    regions: Arc<Vec<String>>,
    region_of_venue: [u32; VENUES.len()],
    ids: Vec<i64>,
    titles: Texts,
    genre_codes: Vec<u32>,
    venue_codes: Vec<u32>,
    region_codes: Vec<u32>,
    opens_days: Vec<i64>,
    closes_days: Vec<i64>,
    prices_krw: Vec<i64>,
}

impl<'a> PerformanceBatch<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        let mut regions: Vec<String> = VENUES.map(|venue| venue.1.to_owned()).to_vec();
        regions.sort_unstable();
        regions.dedup();
        let number = |name: &str| regions.partition_point(|region| region.as_str() < name) as u32;
        let region_of_venue = VENUES.map(|venue| number(venue.1));
        let texts =
            |texts: &mut dyn Iterator<Item = &str>| Arc::new(texts.map(str::to_owned).collect());
        Self {
            world,
            genres: texts(&mut GENRE_NAMES.into_iter()),
            venues: texts(&mut VENUES.into_iter().map(|venue| venue.0)),
            regions: Arc::new(regions),
            region_of_venue,
            ids: Vec::new(),
            titles: Texts::default(),
            genre_codes: Vec::new(),
            venue_codes: Vec::new(),
            region_codes: Vec::new(),
            opens_days: Vec::new(),
            closes_days: Vec::new(),
            prices_krw: Vec::new(),
        }
    }
}

impl Batch for PerformanceBatch<'_> {
    fn make(&mut self, rows: Range<u64>) {
        for numbers in [
            &mut self.ids,
            &mut self.opens_days,
            &mut self.closes_days,
            &mut self.prices_krw,
        ] {
            numbers.clear();
        }
        self.titles.clear();
        self.genre_codes.clear();
        self.venue_codes.clear();
        self.region_codes.clear();
        for row in rows {
            let performance = self.world.catalogue.performance(row as u32);
            // Row numbers start at 0, ids at 1.
            self.ids.push(row as i64 + 1);
            let title = performance.title.as_bytes();
            self.titles.push(|bytes| bytes.extend_from_slice(title));
            self.genre_codes.push(performance.genre.into());
            self.venue_codes.push(performance.venue.into());
            let region = self.region_of_venue[usize::from(performance.venue)];
            self.region_codes.push(region);
            self.opens_days.push(performance.opens_day.into());
            self.closes_days.push(performance.closes_day.into());
            self.prices_krw.push(performance.price_krw.into());
        }
    }

    fn columns(&self) -> Vec<Values<'_>> {
        vec![
            Values::Ints(&self.ids),
            Values::Texts(&self.titles),
            Values::Codes(&self.genre_codes, &self.genres),
            Values::Codes(&self.venue_codes, &self.venues),
            Values::Codes(&self.region_codes, &self.regions),
            Values::Ints(&self.opens_days),
            Values::Ints(&self.closes_days),
            Values::Ints(&self.prices_krw),
        ]
    }
}
