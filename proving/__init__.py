"""The promises of docs/reliability.md, each proved by trials and by a control in which its defence is switched off.

A row is one function in a module under `proving/rows`, found by being there:

    @promise(8, "Cancel frees the slot", section="cancel", figure="upstream closed within 1 s (p99)",
             controls=("disconnects hidden, as BaseHTTPMiddleware hides them",))
    async def cancel_frees_the_slot(run: Run) -> None:
        for _ in range(run.scale(short=4, full=400)):
            seconds = await ...                      # with the defence off where `run.off` names one
            run.measure("hang-up to free slot, s", seconds)
            run.trial(seconds <= 1, f"took {seconds:.2f} s")
        run.require(run.quantile("hang-up to free slot, s", 0.99) <= 1, "p99 above 1 s")

The same function runs once as it is (`run.off == ""`) and must have no failed trial and no broken requirement, and once
for each control (`run.off` is the control's sentence, `scale` gives the short number) and must then have one: a check
that passes without the defence proves nothing, and the row fails. An exception is a failure of the row in either case.
Everything random comes from `run.random`; files go under `run.folder`. Sync functions are as good as async ones.

`make prove SECTION=8` is the full form: it writes build/prove/8.json, copies it to docs/reliability and makes the page
anew. `make test` runs the short form (within 10 s, the controls included). `python -m proving --page` makes the page
alone; `python -m proving 8 --short` tries things out and publishes nothing.

`proving.stand` has Loupe on a real socket, a client that can hang up, and waiting with a deadline; `tests.stub_ollama`,
`tests.faultproxy` and `tests.served` have the rest.
"""
