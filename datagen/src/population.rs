//! The users: who they are, as pure functions of a user's id, so that nothing is kept per user.

use crate::Config;
use crate::draw::{Pick, Zipf};
use crate::random::{Chance, Purpose, Stream, below, mix};

/// Tastes: one per age band at the lake's first date, and one for users of whom no age is known.
pub(crate) const TASTES: usize = 9;
/// The taste of anonymous visitors and of users without a credible birth date.
pub(crate) const NO_TASTE: u8 = 8;

/// 122 years: nobody is believed to be that old.
const OLDEST_DAYS: i32 = 122 * 366;
/// Weight and ages (from, to) of each band at the lake's first date.
const AGES: [(u32, u64, u64); 8] = [
    (1, 5, 10),
    (10, 10, 20),
    (29, 20, 30),
    (25, 30, 40),
    (18, 40, 50),
    (10, 50, 60),
    (5, 60, 70),
    (2, 70, 95),
];
pub(crate) const GENDERS: [(&str, u32); 3] = [("", 8), ("F", 54), ("M", 38)];
pub(crate) const REGIONS: [(&str, u32); 17] = [
    ("Seoul", 240),
    ("Gyeonggi", 250),
    ("Busan", 80),
    ("Incheon", 70),
    ("Daegu", 55),
    ("Daejeon", 40),
    ("Gwangju", 36),
    ("Ulsan", 24),
    ("Sejong", 12),
    ("Changwon", 28),
    ("Jeonju", 24),
    ("Cheongju", 26),
    ("Cheonan", 22),
    ("Chuncheon", 12),
    ("Pohang", 14),
    ("Jeju", 18),
    ("Gangneung", 9),
];

/// A row of `dim/users`, less its id.
#[derive(Debug)]
pub(crate) struct Profile {
    /// Days since 1970.
    pub(crate) birth_day: Option<i32>,
    /// Index into [`GENDERS`]; the first is not told.
    pub(crate) gender: u8,
    /// Index into [`REGIONS`].
    pub(crate) region: u8,
    /// Days since 1970.
    pub(crate) signed_up_day: i32,
}

/// Everyone with a row in `dim/users`, and the unknown ids beyond.
#[derive(Debug)]
pub(crate) struct Population {
    users: u64,
    first_day: i32,
    activity: Zipf,
    /// Rank r of activity belongs to user 1 + (r · multiplier) mod users.
    multiplier: u64,
    birth: Stream,
    profile: Stream,
    ages: Pick,
    null_birth: Chance,
    wrong_birth: Chance,
    genders: Pick,
    regions: Pick,
}

impl Population {
    pub(crate) fn new(config: &Config) -> Self {
        let users = config.users;
        Self {
            users,
            first_day: config.from.to_epoch_days(),
            activity: Zipf::new(users as u32, config.zipf_users),
            multiplier: coprime_near_golden(users),
            birth: Stream::new(config.seed, Purpose::UserBirth),
            profile: Stream::new(config.seed, Purpose::UserProfile),
            ages: Pick::new(&AGES.map(|(weight, ..)| weight)),
            null_birth: Chance::new(config.null_birth_share),
            wrong_birth: Chance::new(config.wrong_birth_share),
            genders: Pick::new(&GENDERS.map(|(_, weight)| weight)),
            regions: Pick::new(&REGIONS.map(|(_, weight)| weight)),
        }
    }

    /// Users with a row in `dim/users`: ids 1 to this.
    pub(crate) fn known(&self) -> u64 {
        self.users
    }

    /// User ids that can occur at all, those unknown to `dim/users` included: 1 to this.
    pub(crate) fn ids(&self) -> u64 {
        self.users + self.unknown_ids()
    }

    fn unknown_ids(&self) -> u64 {
        self.users / 16 + 1
    }

    /// A user by activity.
    #[inline]
    pub(crate) fn draw(&self, word: u64) -> u32 {
        let rank = u64::from(self.activity.draw(word));
        (1 + rank * self.multiplier % self.users) as u32
    }

    /// A user id without a row in `dim/users`.
    #[inline]
    pub(crate) fn draw_unknown(&self, word: u64) -> u32 {
        (self.users + 1 + below(word, self.unknown_ids())) as u32
    }

    /// What a user prefers: an index below [`TASTES`]. Id 0 is an anonymous visitor.
    #[inline]
    pub(crate) fn taste(&self, user: u32) -> u8 {
        if user == 0 || u64::from(user) > self.users {
            return NO_TASTE;
        }
        let word = self.birth.at(u64::from(user));
        if self.null_birth.hit(word) || self.wrong_birth.hit(mix(word)) {
            NO_TASTE
        } else {
            self.ages.draw(word >> 32)
        }
    }

    /// The day of birth, days since 1970, of an id of `dim/users`.
    #[inline]
    pub(crate) fn birth_day(&self, user: u32) -> Option<i32> {
        let word = self.birth.at(u64::from(user));
        let second = mix(word);
        if self.null_birth.hit(word) {
            return None;
        }
        let within_year = below(second, 365) as i32;
        if self.wrong_birth.hit(second) {
            let future = self.first_day + 366 + within_year;
            let long_ago = self.first_day - OLDEST_DAYS - within_year;
            let is_future = word >> 63 == 0;
            return Some(if is_future { future } else { long_ago });
        }
        let (_, from, to) = AGES[usize::from(self.ages.draw(word >> 32))];
        let age_days = (from * 1461 + below(second, (to - from) * 1461)) / 4;
        Some(self.first_day - age_days as i32)
    }

    /// Whether an id of `dim/users` has no date of birth, and whether it has an impossible one: 1 or 0 each.
    pub(crate) fn birth_faults(&self, user: u32) -> [u64; 2] {
        let word = self.birth.at(u64::from(user));
        let is_null = self.null_birth.hit(word);
        let is_wrong = !is_null && self.wrong_birth.hit(mix(word));
        [is_null.into(), is_wrong.into()]
    }

    /// The rest of a user's row.
    pub(crate) fn profile(&self, user: u32) -> Profile {
        let word = self.profile.at(u64::from(user));
        let birth_day = self.birth_day(user);
        // Nobody signs up before being born, whatever the form was told.
        let lived = birth_day.map_or(3000, |day| (self.first_day - day).clamp(1, 3000));
        Profile {
            birth_day,
            gender: self.genders.draw(word),
            region: self.regions.draw(word >> 10),
            signed_up_day: self.first_day - 1 - below(word, lived as u64) as i32,
        }
    }
}

/// A multiplier that permutes 0..n: near n/φ, so that neighbours land far apart.
fn coprime_near_golden(n: u64) -> u64 {
    let gcd = |mut a: u64, mut b: u64| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let mut multiplier = n * 618 / 1000 + 1;
    while gcd(multiplier, n) != 1 {
        multiplier += 1;
    }
    multiplier
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AgeBand, age_band};

    #[test]
    fn every_rank_is_another_user() {
        for n in [1, 2, 6, 1000, 4096, 30_030] {
            let multiplier = coprime_near_golden(n);
            let mut ids: Vec<u64> = (0..n).map(|rank| rank * multiplier % n).collect();
            ids.sort_unstable();
            assert!(ids.iter().copied().eq(0..n));
        }
    }

    #[test]
    fn ages_are_spread_and_some_unknown() {
        let config = Config::default();
        let population = Population::new(&config);
        let mut counts = [0; 9];
        for user in 1..=20_000 {
            let day = population
                .birth_day(user)
                .map(|day| chrono::NaiveDate::from_epoch_days(day).unwrap());
            let band = age_band(day, config.from);
            assert_eq!(population.taste(user), band as u8, "{user}: {day:?}");
            counts[band as usize] += 1;
        }
        assert!(counts.iter().all(|&count| count > 100), "{counts:?}");
        let unknown = counts[AgeBand::Unknown as usize];
        assert!((900..1300).contains(&unknown), "{unknown}");
    }
}
