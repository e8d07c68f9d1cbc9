# SPDX-License-Identifier: Apache-2.0
"""Drive a headless Chromium through its debugging pipe, with nothing but the standard library."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser'))), None)
_PATIENCE_S = 120.0
_FLAGS = (
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-dev-shm-usage',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--no-first-run',
    '--hide-scrollbars',
    '--remote-debugging-pipe',
    '--window-size=1000,900',
)


class Page:
    """One open page.

    Attributes:
        console: All messages on its console, exceptions included.
        requests: Every requested address.
    """

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self.console: list[str] = []
        self.requests: list[str] = []
        self._write, self._read, self._rest = to_browser, from_browser, b''
        self._number, self._session, self._loaded = 0, '', False

    def open(self, address: str) -> None:
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        attached = self.call('Target.attachToTarget', targetId=target, flatten=True)
        self._session = attached['sessionId']
        for domain in ('Runtime', 'Log', 'Network', 'Page'):
            self.call(f'{domain}.enable')
        self._loaded = False
        self.call('Page.navigate', url=address)
        while not self._loaded:
            self._take(self._receive())

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self.call(
            'Runtime.evaluate', expression=script, returnByValue=True, awaitPromise=True
        )
        assert 'exceptionDetails' not in answer, answer['exceptionDetails']
        return answer['result'].get('value')

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.call('Input.dispatchMouseEvent', type=kind, x=x, y=y, **more)

    def drag(self, *path: tuple[float, float]) -> None:
        self.mouse('mousePressed', *path[0], button='left', buttons=1, clickCount=1)
        for spot in path[1:]:
            self.mouse('mouseMoved', *spot, button='left', buttons=1)
        self.mouse('mouseReleased', *path[-1], button='left', clickCount=1)

    def press(self, key: str) -> None:
        for kind in ('keyDown', 'keyUp'):
            self.call('Input.dispatchKeyEvent', type=kind, key=key, code=key)

    def screenshot(self, path: Path) -> None:
        shot = self.call('Page.captureScreenshot', format='png')
        path.write_bytes(base64.b64decode(shot['data']))

    def call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        message = {'id': self._number, 'method': method, 'params': parameters}
        if self._session:
            message['sessionId'] = self._session
        os.write(self._write, json.dumps(message).encode() + b'\0')
        while True:
            answer = self._receive()
            if answer.get('id') == self._number:
                assert 'error' not in answer, (method, answer['error'])
                return answer['result']
            self._take(answer)

    def _take(self, event: dict[str, Any]) -> None:
        kind, params = event.get('method'), event.get('params', {})
        if kind == 'Page.loadEventFired':
            self._loaded = True
        elif kind == 'Network.requestWillBeSent':
            self.requests.append(params['request']['url'])
        elif kind in ('Runtime.consoleAPICalled', 'Runtime.exceptionThrown', 'Log.entryAdded'):
            self.console.append(json.dumps(params))

    def _receive(self) -> dict[str, Any]:
        end_s = time.monotonic() + _PATIENCE_S
        while b'\0' not in self._rest:
            left_s = end_s - time.monotonic()
            ready, _, _ = select.select([self._read], [], [], max(left_s, 0.0))
            chunk = os.read(self._read, 1 << 20) if ready else b''
            assert chunk, 'Chromium ended' if ready else 'Chromium does not answer'
            self._rest += chunk
        message, self._rest = self._rest.split(b'\0', 1)
        return json.loads(message)


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """Start Chromium with an empty profile; end it afterwards."""
    assert CHROMIUM is not None
    child_reads, we_write = os.pipe()
    we_read, child_writes = os.pipe()
    # It reads commands from descriptor 3 and answers on 4.
    script = f'exec "$@" 3<&{child_reads} 4>&{child_writes}'
    process = subprocess.Popen(
        ['bash', '-c', script, 'bash', CHROMIUM, *_FLAGS, f'--user-data-dir={profile}'],
        pass_fds=(child_reads, child_writes),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(child_reads), os.close(child_writes)
    page = Page(we_write, we_read)
    try:
        yield page
        page._session = ''
        with suppress(AssertionError):
            page.call('Browser.close')
        process.wait(_PATIENCE_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(we_write), os.close(we_read)
