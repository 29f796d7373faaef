//! Which site a record belongs to: its own, the one its request names, or the one its sender is
//! bound to. The same for JSON and for text that was split into fields.

use super::{Known, RecordErrorCode, Refusal, Rules, check::judge_site, shown};

impl Rules {
    /// What is to stand in the place of `found` (empty where the record has no site); `None`
    /// where it stands well.
    #[inline]
    pub(super) fn site_for<R: Refusal>(&self, found: &str) -> Result<Option<&str>, R> {
        if found.is_empty() {
            return match (&self.default_site, &self.bound_site) {
                (None, bound) => Ok(bound.as_deref()),
                (Some(default), None) => Ok(Some(default)),
                (Some(default), Some(bound)) => bound_to(bound, default).map(|_| Some(&**bound)),
            };
        }
        judge_site::<R>(found)?;
        match &self.bound_site {
            None => Ok(None),
            Some(bound) => bound_to(bound, found),
        }
    }
}

/// Host names are the same in any case; one spelling is stored, so that nobody who is bound to a
/// site can make a second one of it.
fn bound_to<'b, R: Refusal>(bound: &'b str, claimed: &str) -> Result<Option<&'b str>, R> {
    if claimed == bound {
        Ok(None)
    } else if claimed.eq_ignore_ascii_case(bound) {
        Ok(Some(bound))
    } else {
        Err(foreign(bound, claimed))
    }
}

#[cold]
fn foreign<R: Refusal>(bound: &str, claimed: &str) -> R {
    R::refuse(RecordErrorCode::ForeignSite, Some(Known::Site), || {
        format!(
            "site: found \"{}\", allowed is the site \"{bound}\" of the API key, or none",
            shown(claimed.as_bytes())
        )
    })
}
