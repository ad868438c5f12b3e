#!/usr/bin/env node
import '../packages/shoal/bin/shoal.js';
