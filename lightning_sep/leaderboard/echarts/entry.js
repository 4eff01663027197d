// What the page takes of Apache ECharts. To build echarts.min.js anew, in this folder:
//   npm install --no-save echarts@6.1.0 esbuild@0.28.2
//   npx esbuild entry.js --bundle --minify --format=iife --global-name=echarts --legal-comments=none
// and put the comment of the present file's first line before what that prints.
import { use } from "echarts/core";
import { CustomChart, LineChart, ParallelChart, ScatterChart } from "echarts/charts";
import { DataZoomInsideComponent, GridComponent, MarkLineComponent, ParallelComponent, TooltipComponent } from "echarts/components";
import { SVGRenderer } from "echarts/renderers";

use([CustomChart, LineChart, ParallelChart, ScatterChart, DataZoomInsideComponent, GridComponent, MarkLineComponent, ParallelComponent, TooltipComponent, SVGRenderer]);

export { getInstanceByDom, init } from "echarts/core";
