//! The page a person reads: Japanese first, then English, for one reason. Static text and three escaped values; no script,
//! no link, no image, nothing of the policy.

use std::time::SystemTime;

use time::OffsetDateTime;
use time::macros::{format_description, offset};

use super::{extra_fields, http_answer, proxy_status};
use crate::http1::http_date;
use crate::reason::Reason;

/// A whole answer made by sekisho: status, fields and body, for either HTTP version.
pub struct Page {
    pub status: u16,
    /// Names in lower case, as HTTP/2 wants them.
    pub fields: Vec<(&'static str, String)>,
    pub body: String,
}

impl Page {
    /// `methods` are those that are taken where the answer is 405, `host` what the client asked for, `reference` the record's `event.id`.
    pub fn new(reason: Reason, methods: &'static str, host: &str, reference: &str, now: SystemTime) -> Self {
        let body = body(reason, host, reference, now);
        let mut fields = vec![
            ("date", http_date(now)),
            ("content-type", "text/html; charset=utf-8".to_owned()),
            ("proxy-status", proxy_status(reason)),
            ("cache-control", "no-store".to_owned()),
            ("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'".to_owned()),
            ("x-content-type-options", "nosniff".to_owned()),
        ];
        if let Some((name, value)) = extra_fields(reason, methods) {
            fields.push((if name == "Allow" { "allow" } else { "retry-after" }, value.to_owned()));
        }
        Self { status: http_answer(reason).status, fields, body }
    }
}

fn body(reason: Reason, host: &str, reference: &str, now: SystemTime) -> String {
    let (japanese, english) = words(reason);
    let time = time_of(now);
    let (host, reference) = (escape(host), escape(reference));
    format!(
        "<!doctype html>\n<html lang=\"ja\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>接続できません / Not connected</title>\
         <style>{STYLE}</style></head><body><main>\
         <h1>接続できません</h1><p>{japanese}</p><p class=\"do\">業務で必要な場合は、下の受付番号を添えて情報システム担当へお問い合わせください。</p>\
         <div lang=\"en\"><h2>Not connected</h2><p>{english}</p><p class=\"do\">If you need this for your work, give the reference below to your \
         IT help desk.</p></div>\
         <dl><dt>接続先 / Host</dt><dd>{host}</dd><dt>理由 / Reason</dt><dd>{reason}</dd><dt>時刻 / Time</dt><dd>{time}</dd>\
         <dt>受付番号 / Reference</dt><dd>{reference}</dd></dl></main></body></html>\n"
    )
}

/// In the readers' own time, and in the record's.
fn time_of(now: SystemTime) -> String {
    let seconds = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    let utc = OffsetDateTime::from(now);
    let shown = |time: OffsetDateTime| time.format(seconds).unwrap_or_default();
    format!("{} JST ({} UTC)", shown(utc.to_offset(offset!(+9))), shown(utc))
}

const STYLE: &str = "body{margin:0;background:#f4f5f7;color:#1f2328;font:16px/1.7 system-ui,'Hiragino Sans','Yu Gothic UI','Noto Sans CJK JP',sans-serif}\
main{max-width:40rem;margin:8vh auto;padding:2rem 2.25rem;background:#fff;border-top:6px solid #9a3412;border-radius:6px}\
h1{font-size:1.5rem;margin:0 0 .5rem}h2{font-size:1.05rem;margin:1.5rem 0 .25rem}p{margin:.25rem 0}.do{color:#57606a}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.35rem 1.25rem;margin:1.75rem 0 0;padding-top:1.25rem;border-top:1px solid #d8dee4;font-size:.92rem}\
dt{color:#57606a}dd{margin:0;overflow-wrap:anywhere;font-family:ui-monospace,monospace}";

/// The five characters that could leave a text node or an attribute.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ if c.is_control() => out.push('\u{fffd}'),
            _ => out.push(c),
        }
    }
    out
}

/// The reason in plain words, Japanese and English.
fn words(reason: Reason) -> (&'static str, &'static str) {
    // A literal table.
    use Reason as R;
    match reason {
        R::MalformedRequest | R::MalformedName | R::HeadTooLarge | R::RequestHeadTimeout => (
            "ブラウザまたはアプリから届いた要求の形式が正しくないため、中継しませんでした。",
            "The request that the browser or application sent is not well-formed, so it was not passed on.",
        ),
        R::ClientNotPermitted => (
            "この端末からこのサービスへの接続は許可されていません。",
            "This terminal is not permitted to reach this service.",
        ),
        R::PortNotPermitted | R::PlainHttpNotPermitted | R::AddressDenied | R::SelfConnection => (
            "この接続先への、この方法での接続は許可されていません。",
            "This way of reaching the destination is not permitted.",
        ),
        R::NotAllowlisted | R::IpLiteral => (
            "この接続先は、許可されたクラウドサービスの一覧にありません。",
            "This destination is not on the list of approved cloud services.",
        ),
        R::ServiceNotApproved => (
            "この接続先のサービスは、登録の期限が過ぎて継続の判断がされていないため、利用を停止しています。",
            "The registration of this service has ended and nobody has decided on it, so its use is suspended.",
        ),
        R::MethodNotPermitted => (
            "この接続先に対して、この操作は許可されていません。",
            "This kind of request is not permitted for this destination.",
        ),
        R::NameMismatch => (
            "要求の宛先が、接続の宛先と一致しません。",
            "The request names another host than the connection it came on.",
        ),
        R::RateLimited | R::TooManyConnectionsOfClient => (
            "この端末からの接続が短時間に多すぎます。しばらく待ってからやり直してください。",
            "This terminal has sent too much in too short a time. Wait a little and try again.",
        ),
        R::DnsFailed | R::DnsTimeout => (
            "接続先の名前からアドレスを調べられませんでした。",
            "The address of the destination could not be looked up.",
        ),
        R::ConnectFailed | R::ConnectTimeout | R::UpstreamTimeout | R::UpstreamClosed | R::IdleTimeout => {
            ("接続先のサーバーから応答がありません。", "The destination's server did not answer.")
        }
        R::CertificateInvalid => (
            "接続先の証明書を確認できませんでした。安全のため、接続していません。",
            "The destination's certificate could not be verified. For safety nothing was sent.",
        ),
        R::TlsFailed | R::NoApplicationProtocol | R::TlsVersion => (
            "接続先との暗号化通信を始められませんでした。",
            "An encrypted connection to the destination could not be set up.",
        ),
        R::ClientCertificateRequired => (
            "接続先がクライアント証明書を求めているため、検査を伴う接続はできません。",
            "The destination asks for a client certificate, which an inspected connection cannot give.",
        ),
        R::UpstreamTruncated | R::UpstreamMalformed => (
            "接続先のサーバーの応答が正しくないため、表示できません。",
            "The destination's server gave an answer that is not valid.",
        ),
        R::TooManyConnections | R::Overloaded | R::ShuttingDown => (
            "ただいま混み合っているか、保守中です。しばらく待ってからやり直してください。",
            "The gateway is busy or being maintained. Wait a little and try again.",
        ),
        R::RecordUnavailable | R::IssuingFailed | R::InternalError => (
            "ゲートウェイに問題が起きているため、安全のため接続を止めています。",
            "The gateway has a problem of its own; for safety it connects to nothing until that is mended.",
        ),
        R::CutByOperator => ("管理者がこの接続を切断しました。", "An administrator has ended this connection."),
        R::PolicyWithdrawn => {
            ("この接続先の許可が取り消されました。", "The permission to reach this destination was withdrawn.")
        }
        R::NoSni | R::NotTls | R::MalformedClientHello | R::ClientHelloTooLarge | R::ClientHelloTimeout => (
            "ブラウザまたはアプリが正しい暗号化通信を始めませんでした。",
            "The browser or application did not begin a proper encrypted connection.",
        ),
        R::TooSlow => (
            "この端末からの送信が遅すぎるため、中継を打ち切りました。通信状態を確かめて、やり直してください。",
            "This terminal sent too slowly, so the request was given up. Check its connection and try again.",
        ),
        R::ClientClosed | R::ClientRejectedCertificate | R::ConnectionExpired => {
            ("接続が閉じられました。", "The connection was closed.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::PLAIN_METHODS;

    #[test]
    fn values_are_escaped_and_the_page_has_no_script() {
        let host = "<script>alert('1')</script>\u{7}";
        let page = Page::new(Reason::NotAllowlisted, PLAIN_METHODS, host, "A\"B", SystemTime::UNIX_EPOCH);
        assert_eq!(page.status, 403);
        assert!(page.body.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;\u{fffd}"), "{}", page.body);
        assert!(page.body.contains("A&quot;B"));
        assert!(!page.body.contains("<script"));
        assert!(page.body.contains("1970-01-01 09:00:00 JST (1970-01-01 00:00:00 UTC)"));
        let field = |name: &str| page.fields.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
        assert_eq!(field("content-security-policy").as_deref(), Some("default-src 'none'; style-src 'unsafe-inline'"));
        assert_eq!(field("cache-control").as_deref(), Some("no-store"));
    }

    #[test]
    fn every_reason_speaks_both_languages() {
        for reason in Reason::ALL {
            let (japanese, english) = words(*reason);
            assert!(!japanese.is_ascii() && english.is_ascii(), "{reason}");
        }
    }
}
