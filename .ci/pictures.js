// SPDX-License-Identifier: MIT OR Apache-2.0
// What .ci/pictures does in the browser. Its arguments are the folder with the reports, and that of the pictures.
'use strict';
const path = require('path');
const [work, to] = process.argv.slice(2);
const { chromium } = require(path.join(work, 'node_modules/playwright-core'));
// The picture, the report, the place in it, and the key that is pressed there.
const PICTURES = [
  ['tutorial-html.png', 'tutorial/coverage', '#file=words.c&line=31', ''],
  ['tutorial-contexts.png', 'tutorial/jobs-coverage', '#file=jobs.c&line=27', 'i'],
];
(async () => {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: ['--no-sandbox'] });
  for (const [name, report, hash, key] of PICTURES) {
    const page = await browser.newPage({ viewport: { width: 1000, height: 520 }, colorScheme: 'light' });
    await page.goto('file://' + path.join(work, report, 'index.html') + hash);
    await page.waitForSelector('#code .l');
    if (key) await page.keyboard.press(key);
    await page.waitForTimeout(500);
    await page.screenshot({ path: path.join(to, name) });
    await page.close();
    console.log(path.join(to, name));
  }
  await browser.close();
})();
