use std::time::{Duration, SystemTime};

/// What the claims of a JWT must say.
///
/// | claim | default |
/// |---|---|
/// | `exp` | must be there, and in the future |
/// | `nbf` | must not be in the future, if it is there |
/// | `aud` | a token that is made out to someone is refused, until [`audience`](Self::audience) says who this is; then it must be there |
/// | `iss` | anyone, until [`issuer`](Self::issuer); then it must be there |
///
/// Clocks may differ by 30 s ([`leeway`](Self::leeway)).
#[derive(Clone, Debug)]
pub struct JwtRules {
    audiences: Vec<String>,
    issuers: Vec<String>,
    leeway: Duration,
    needs_expiry: bool,
    clock: fn() -> SystemTime,
}

impl JwtRules {
    /// The defaults.
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

    /// Takes tokens made out to `audience` (RFC 7519, section 4.1.3), or to another that is named here.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Takes tokens made by `issuer` (RFC 7519, section 4.1.1), or by another that is named here.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuers.push(issuer.into());
        self
    }

    /// Sets by how much clocks may differ, in whole seconds.
    #[must_use]
    pub fn leeway(mut self, time: Duration) -> Self {
        self.leeway = time;
        self
    }

    /// Also takes tokens without `exp`. They are good for ever, whoever has them.
    #[must_use]
    pub fn without_expiry(mut self) -> Self {
        self.needs_expiry = false;
        self
    }

    /// Reads the time elsewhere: for tests.
    #[must_use]
    pub fn clock(mut self, clock: fn() -> SystemTime) -> Self {
        self.clock = clock;
        self
    }

    /// Who made the token and whom it is for; its signature is good.
    pub(super) fn check_parties(
        &self,
        issuer: Option<&str>,
        has_audience: bool,
        audience: &[String],
    ) -> Result<(), &'static str> {
        const MISSING: &str = "the token lacks a claim that is required here";

        if !self.issuers.is_empty() {
            let issuer = issuer.ok_or(MISSING)?;
            if !self.issuers.iter().any(|known| known == issuer) {
                return Err("the token is of another issuer");
            }
        }
        match (has_audience, self.audiences.is_empty()) {
            (false, true) => Ok(()),
            (false, false) => Err(MISSING),
            // RFC 7519, section 4.1.3: a token that is made out to someone is for nobody else, whether we have a name or not.
            (true, _) if audience.iter().any(|named| self.audiences.contains(named)) => Ok(()),
            (true, _) => Err("the token is for another audience"),
        }
    }

    /// The times of a token, whose signature is good.
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
