//! Reports: pages that people open in a browser, and what they are made of. Pure: counts in, bytes
//! out; which are due and where they stand is `reports`' business.
//!
//! In the order of a number's way: [`day`] (a site's day, cut to what pages show, as it is kept),
//! [`days`] (the days of all sites in one file, from which each is read alone), `pack` (numbers as
//! pages hold them), [`data`] (a range
//! of days as one page's data), [`page`] (the file).

pub mod day;
pub mod days;

mod keys;
mod pack;
mod series;

pub mod data;

pub mod page;
