//! `dim/users`: one row a user, ids in order.

use std::ops::Range;
use std::sync::Arc;

use crate::encode::{Batch, NO_CODE, NULL, Values};
use crate::population::{GENDERS, REGIONS};
use crate::traffic::World;

use super::names;

/// Some rows.
#[derive(Debug)]
pub(crate) struct UserBatch<'a> {
    world: &'a World,
    genders: Arc<Vec<String>>,
    regions: Arc<Vec<String>>,
    ids: Vec<i64>,
    birth_days: Vec<i64>,
    gender_codes: Vec<u32>,
    region_codes: Vec<u32>,
    signed_up_days: Vec<i64>,
}

impl<'a> UserBatch<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        Self {
            world,
            genders: names(&GENDERS),
            regions: names(&REGIONS),
            ids: Vec::new(),
            birth_days: Vec::new(),
            gender_codes: Vec::new(),
            region_codes: Vec::new(),
            signed_up_days: Vec::new(),
        }
    }
}

impl Batch for UserBatch<'_> {
    fn make(&mut self, rows: Range<u64>) {
        for numbers in [
            &mut self.ids,
            &mut self.birth_days,
            &mut self.signed_up_days,
        ] {
            numbers.clear();
        }
        self.gender_codes.clear();
        self.region_codes.clear();
        // Row numbers start at 0, ids at 1.
        for id in rows.start + 1..rows.end + 1 {
            let user = self.world.population.profile(id as u32);
            self.ids.push(id as i64);
            self.birth_days.push(user.birth_day.map_or(NULL, i64::from));
            self.gender_codes.push(match user.gender {
                // Not told.
                0 => NO_CODE,
                gender => gender.into(),
            });
            self.region_codes.push(user.region.into());
            self.signed_up_days.push(user.signed_up_day.into());
        }
    }

    fn columns(&self) -> Vec<Values<'_>> {
        vec![
            Values::Ints(&self.ids),
            Values::Ints(&self.birth_days),
            Values::Codes(&self.gender_codes, &self.genders),
            Values::Codes(&self.region_codes, &self.regions),
            Values::Ints(&self.signed_up_days),
        ]
    }
}
