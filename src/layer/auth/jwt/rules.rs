use std::time::{Duration, SystemTime};

/// The requirements on the claims of a JWT.
///
/// | claim | default |
/// |---|---|
/// | `exp` | required, and must be in the future |
/// | `nbf` | must not be in the future, if present |
/// | `aud` | a token with one is refused until [`audience`] names this service; then it is required |
/// | `iss` | any issuer, until [`issuer`](Self::issuer) names one; after that the claim is required |
///
/// Clocks may differ by 30 s ([`leeway`](Self::leeway)).
///
/// [`audience`]: Self::audience
#[derive(Clone, Debug)]
pub struct JwtRules {
    audiences: Vec<String>,
    issuers: Vec<String>,
    leeway: Duration,
    needs_expiry: bool,
    clock: fn() -> SystemTime,
}

impl JwtRules {
    /// Creates the default rules.
    #[must_use]
    pub fn new() -> Self {
        Self {
            audiences: Vec::new(),
            issuers: Vec::new(),
            leeway: Duration::from_secs(30),
            needs_expiry: true,
            clock: SystemTime::now,
        }
    }

    /// Accepts tokens for `audience` (RFC 7519, section 4.1.3), in addition to those named before.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Accepts tokens of `issuer` (RFC 7519, section 4.1.1), in addition to those named before.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuers.push(issuer.into());
        self
    }

    /// Sets by how much clocks may differ, in whole seconds. Defaults to 30 s.
    #[must_use]
    pub fn leeway(mut self, time: Duration) -> Self {
        self.leeway = time;
        self
    }

    /// Also accepts tokens without `exp`. Such a token is valid forever, also in the hands of a thief.
    #[must_use]
    pub fn without_expiry(mut self) -> Self {
        self.needs_expiry = false;
        self
    }

    /// Reads the time from another clock, for tests.
    #[must_use]
    pub fn clock(mut self, clock: fn() -> SystemTime) -> Self {
        self.clock = clock;
        self
    }

    /// Checks the issuer and the audience of a token whose signature is valid.
    pub(super) fn check_parties(
        &self,
        issuer: Option<&str>,
        has_audience: bool,
        audience: &[String],
    ) -> Result<(), &'static str> {
        const MISSING: &str = "the token lacks a required claim";

        if !self.issuers.is_empty() {
            let issuer = issuer.ok_or(MISSING)?;
            if !self.issuers.iter().any(|known| known == issuer) {
                return Err("the token is from another issuer");
            }
        }
        match (has_audience, self.audiences.is_empty()) {
            (false, true) => Ok(()),
            (false, false) => Err(MISSING),
            // RFC 7519, section 4.1.3: a token with an audience is only for that audience, whether this service has a
            // name or not.
            (true, _) if audience.iter().any(|named| self.audiences.contains(named)) => Ok(()),
            (true, _) => Err("the token is for another audience"),
        }
    }

    /// Checks the times of a token whose signature is valid.
    pub(super) fn check_times(&self, expires: Option<u64>, not_before: Option<u64>) -> Result<(), &'static str> {
        let now = (self.clock)().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let leeway = self.leeway.as_secs();
        match expires {
            None if self.needs_expiry => return Err("the token has no expiry"),
            Some(expires) if now >= expires.saturating_add(leeway) => return Err("the token has expired"),
            _ => {}
        }
        match not_before {
            Some(start) if start > now.saturating_add(leeway) => Err("the token is not valid yet"),
            _ => Ok(()),
        }
    }
}

impl Default for JwtRules {
    fn default() -> Self {
        Self::new()
    }
}
