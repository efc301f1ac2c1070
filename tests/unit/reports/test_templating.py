from erasure.reports import templating


def test_a_template_is_compiled_once_and_filled_in_each_time(monkeypatch):
    templating._compiled.cache_clear()
    read = []
    text = templating.template_text
    monkeypatch.setattr(templating, "template_text", lambda *given: read.append(given) or text(*given))
    pages = [
        templating.render("ui_message.html.j2", "a test", filters={}, package="erasure.ui", icon="", title=title, text="<b>\x07")
        for title in ("first", "second")
    ]
    assert "first" in pages[0] and "second" in pages[1] and "first" not in pages[1]
    assert all("&lt;b&gt;\N{REPLACEMENT CHARACTER}" in page for page in pages)
    assert len(read) == len(set(read))
    templating._compiled.cache_clear()


def test_options_stand_out_and_everything_else_is_text():
    shown = templating.with_options("<b> use five seeds (--seeds 0-4) or --device; a--b is text")
    assert shown == (
        '&lt;b&gt; use five seeds (<code class="whole">--seeds 0-4</code>) or <code class="whole">--device</code>; a--b is text'
    )
